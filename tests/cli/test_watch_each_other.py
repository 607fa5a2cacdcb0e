"""`tocsin watch-each-other`: with one command or two, each installation notices that the other is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.backup_scene import typed
from tests.processes import NO_AUTHORITIES, tocsin
from tests.receivers import Answer, Receiver
from tests.service import Service
from tests.waiting import until
from tocsin.domain import ids, inner_loop, installations
from tocsin.domain.heartbeats import slug_of
from tocsin.storage.accounts import accounts, operator
from tocsin.storage.postgres.secrets import Vault

OURS = "https://here.example.com"
SET = "    TOCSIN_HEARTBEAT_URL="


@pytest.fixture
async def here(environ: dict[str, str], pool: asyncpg.Pool, vault: Vault) -> dict[str, str]:
    """The settings of an installation with an operator."""
    async with pool.acquire() as tx, tx.transaction():
        assert await accounts.create_operator(tx, vault, operator.UNSET, None, "First project")
    return {**environ, "TOCSIN_PUBLIC_URL": OURS}


def addresses(out: str) -> list[str]:
    return [line.removeprefix(SET) for line in out.splitlines() if line.startswith(SET)]


async def heartbeats(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/api/v1/heartbeats")).json()["data"]
    return found


async def test_both_halves_are_made_once_and_the_other_sees_that_this_one_works(
    here: dict[str, str], service: Service, client: httpx.AsyncClient, pool: asyncpg.Pool, tmp_path: Path,
    service_with: Callable[..., Service],
) -> None:  # fmt: skip
    token = tmp_path / "token"
    token.write_text(f"{service.token}\n")
    command = ("watch-each-other", f"{service.url}/", "--token-file", str(token))
    ran = await tocsin(*command, environ=here)
    assert ran.code == 0, ran.err
    assert service.token not in ran.out + ran.err
    theirs, ours = addresses(ran.out)
    [there] = await heartbeats(client)
    assert (there["name"], there["ping_url"]) == ("Tocsin at here.example.com", theirs)
    assert (there["period"], there["grace"], there["status"]) == (60, 60, "new")
    assert ours.startswith(f"{OURS}/ping/")
    assert await pool.fetchval("SELECT name FROM heartbeats") == f"Tocsin at {service.url}"
    again = await tocsin(*command, environ=here)
    assert (again.code, again.out) == (0, ran.out), "it finds what is there"
    assert len(await heartbeats(client)) == await pool.fetchval("SELECT count(*) FROM heartbeats") == 1
    known = await tocsin(*command, environ={**here, "TOCSIN_HEARTBEAT_URL": theirs})
    assert "is what it must be here" in known.out

    watched = service_with(TOCSIN_HEARTBEAT_URL=theirs, TOCSIN_HEARTBEAT_EVERY="0.5")

    async def up() -> bool:
        return (await heartbeats(client))[0]["status"] == "up"

    await until(up, what="a call")
    path = ours.removeprefix(OURS)
    async with httpx.AsyncClient(base_url=watched.url, trust_env=False, verify=NO_AUTHORITIES) as caller:
        assert (await caller.get(path)).status_code == 200


async def test_without_a_token_it_makes_its_own_half_and_says_how_to_make_the_other(
    here: dict[str, str], pool: asyncpg.Pool
) -> None:
    ran = await tocsin("watch-each-other", "https://there.example.org", environ=here)
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1].endswith(f"run there: tocsin watch-each-other {OURS}")
    assert len(addresses(ran.out)) == 1
    assert ran.err.startswith("Here:  the heartbeat 'Tocsin at there.example.org' is made")
    assert await pool.fetchval("SELECT count(*) FROM heartbeats") == 1


@pytest.mark.parametrize(
    "addresses",
    [
        ("https://status.example.com", "https://status-example.com", "http://status.example.com"),
        ("https://ü.example", "https://💥.example"),
        (f"https://{'a' * 60}.{'b' * 60}.example.com", f"https://{'a' * 60}.{'b' * 60}.example.org"),
        ("https://example.com/one", "https://example.com/one/two", "https://example.com:8443/one"),
    ],
)
def test_two_installations_never_share_a_heartbeat(addresses: tuple[str, ...]) -> None:
    known = [installations.at(each) for each in addresses]
    assert len({each.slug for each in known}) == len({each.name for each in known}) == len(addresses)
    assert all(slug_of(each.slug) == each.slug for each in known), "each is a slug"


def test_one_installation_has_one_heartbeat_however_its_address_is_written() -> None:
    one = installations.at("https://tocsin.example.com")
    assert installations.at("HTTPS://Tocsin.Example.com:443/") == one
    assert installations.at("https://tocsin.example.com/") == one


async def test_what_cannot_be_done_is_one_line_and_makes_nothing(
    here: dict[str, str], pool: asyncpg.Pool, service: Service, receiver: Receiver
) -> None:
    receiver.otherwise = Answer(body=b"<html>")
    nobody, hidden = ids.public(ids.PROJECT, ids.new()), ids.public(ids.PROJECT, inner_loop.PROJECT)
    for arguments, why in (
        ((service.url, "--token", "tcp_wrong"), "does not accept this token"),
        ((receiver.url(""), "--token", "x"), "does not answer as a Tocsin does"),
        (("http://127.0.0.1:1", "--token", "x"), "cannot be reached"),
        (("ftp://example.com",), "must be an address"),
        (("https://there.example.org", "--project", nobody), "There is no project"),
        (("https://there.example.org", "--project", hidden), "There is no project"),
        ((f"{OURS.upper()}:443/",), "is this installation"),
        (("https://there.example.org/?x=1",), "must be an address"),
        (("https://there.example.org/#f",), "must be an address"),
    ):
        ran = await tocsin("watch-each-other", *arguments, environ=here)
        assert ran.code in (1, 2), arguments
        assert why in ran.err.splitlines()[-1], ran.err
    assert await pool.fetchval("SELECT count(*) FROM heartbeats") == 0


@pytest.mark.parametrize(
    "ping_url",
    [
        b'"https://there.example.org/\\u001b[2J"', b'"https://there.example.org/\\nTOCSIN_SMTP_URL=smtp://evil.example"',
        b'"file:///etc/passwd"', b'{"a": 1}', b'"https://u:p@there.example.org/ping/x"', b'""', b"null",
        b'"https://there.example.org/$(reboot)"', b'"https://there.example.org/\\udc80"', b"[" * 200_000,
    ],
    ids=lambda ping_url: ping_url[:40].decode(),
)  # fmt: skip
async def test_nothing_that_the_other_one_says_is_printed_but_an_address(
    here: dict[str, str], pool: asyncpg.Pool, receiver: Receiver, ping_url: bytes
) -> None:
    slug = installations.at(OURS).slug.encode()
    receiver.otherwise = Answer(body=b'{"data": [{"slug": "%b", "ping_url": %b}]}' % (slug, ping_url))
    ran = await tocsin("watch-each-other", receiver.url(""), environ={**here, "TOCSIN_OTHER_TOKEN": "tcp_x"})
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines()[-1].endswith("does not answer as a Tocsin does"), ran.err
    assert await pool.fetchval("SELECT count(*) FROM heartbeats") == 0


async def test_an_address_that_another_machine_cannot_call_is_refused(here: dict[str, str], pool: asyncpg.Pool) -> None:
    for ours in ("", "http://127.0.0.1:8000", "http://[::1]:8000", "http://localhost:8000"):
        environ = {**here, "TOCSIN_PUBLIC_URL": ours}
        ran = await tocsin("watch-each-other", "https://there.example.org", environ=environ)
        assert (ran.code, ran.out) == (2, "")
        assert "TOCSIN_PUBLIC_URL: must be set first" in ran.err, ran.err
    assert await pool.fetchval("SELECT count(*) FROM heartbeats") == 0


async def test_on_a_terminal_it_asks_first_wherever_the_token_comes_from(
    here: dict[str, str], pool: asyncpg.Pool, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("tcp_x")
    command = ["watch-each-other", "http://127.0.0.1:1", "--token-file", str(tmp_path / "token")]
    said = await asyncio.to_thread(typed, command, here, "n\n")
    assert "Go on?" in said
    assert "interrupted" in said
    assert "cannot be reached" not in said
