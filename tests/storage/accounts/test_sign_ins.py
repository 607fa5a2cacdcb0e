"""Limits on signing in: they count networks and accounts, whatever they are called, and lock nobody out at home."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import asyncpg
import httpx
import pytest

from tests.people import ANN, ELSEWHERE, HOME, OFFICE, PASSWORD, account, at, csrf, sign_in, site
from tests.service import Service
from tests.users import outbox
from tests.waiting import until
from tocsin.domain import clients
from tocsin.domain.accounts import same_address
from tocsin.domain.settings import Unusable
from tocsin.settings import Settings, load
from tocsin.storage.accounts import sign_ins
from tocsin.storage.postgres import database
from tocsin.storage.postgres.secrets import Vault

__all__ = ["site"]


async def guess(client: httpx.AsyncClient, address: str = ANN, **headers: str) -> int:
    given = {"user": {"email": address, "password": "wrong"}}
    return (await client.post("/api/v1/users/sign_in", json=given, headers=headers)).status_code


PROXIES = tuple(map(ip_network, ("10.0.0.0/8", "2001:db8:f::/48")))


@pytest.mark.parametrize(
    ("peer", "forwarded", "counts"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.5"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["198.51.100.1", "203.0.113.5, 10.9.9.9"], "203.0.113.5"),
        ("10.0.0.1", ["203.0.113.5:4711"], "203.0.113.5"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::/64"),
        ("10.0.0.1", ["::ffff:203.0.113.5"], "203.0.113.5"),
        ("::ffff:10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
        ("10.0.0.1", ["203.0.113.5, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.5, _hidden, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [",,,"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.5" + "," * 10_000], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.5" + ", 10.0.0.2" * 10_000], "10.0.0.2"),
        ("10.0.0.1", ["9" * 10_000], "10.0.0.1"),
        ("10.0.0.1", ["\x00\udcff"], "10.0.0.1"),
        ("2001:db8:f::1", ["2001:db8:a:b:c:d:e:f"], "2001:db8:a:b::/64"),
        ("2001:db8:a:b::1", ["203.0.113.5"], "2001:db8:a:b::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("::1", [], "::/64"),
        ("::ffff:192.0.2.7", [], "192.0.2.7"),
        ("2001:db8:1:2::", [], "2001:db8:1:2::/64"),
        (None, ["203.0.113.5"], clients.NOWHERE),
        ("/run/socket", [], clients.NOWHERE),
    ],
)
def test_the_right_most_address_that_is_no_trusted_proxys_counts(
    peer: str | None, forwarded: list[str], counts: str
) -> None:
    assert clients.network(peer, forwarded, PROXIES) == counts


def test_no_proxy_is_trusted_unless_the_operator_names_it() -> None:
    assert load(environ={}).trusted_proxies == ()
    named = load(environ={"TOCSIN_TRUSTED_PROXIES": "10.0.0.0/8, 2001:db8:f::/48"})
    assert named.trusted_proxies == PROXIES
    with pytest.raises(Unusable, match="TOCSIN_TRUSTED_PROXIES"):
        load(environ={"TOCSIN_TRUSTED_PROXIES": "proxy.example.com"})


@pytest.mark.parametrize("other", ["İnfo@example.com", "ınfo@example.com", "info@example.com.", "info＠example.com"])
def test_what_only_looks_like_an_address_is_another(other: str) -> None:
    assert same_address(other) != same_address("info@example.com")


async def test_the_database_compares_addresses_as_the_limits_do(pool: asyncpg.Pool) -> None:
    for text in ("İnfo@example.com", "INFO@Example.COM", "ÄÖ@example.com", "K@example.com", "ß@example.com"):
        assert await pool.fetchval('SELECT lower($1::text COLLATE "C")', text) == same_address(text)


async def test_other_letters_do_not_walk_around_a_limit(site: Any, pool: asyncpg.Pool, vault: Vault) -> None:
    await account(pool, vault, "info@example.com")
    async with at(site, HOME) as client:
        spelled = ["info@example.com", "INFO@example.com", " iNfo@EXAMPLE.com "] * 4
        assert [await guess(client, each) for each in spelled[:11]] == [401] * 10 + [429]
        for other in ("İnfo@example.com", "ınfo@example.com"):
            assert (await sign_in(client, other)).status_code == 422, "that is nobody's address"
    async with at(site, OFFICE) as client:
        assert (await sign_in(client, "INFO@example.com")).status_code == 303


async def use_up(pool: asyncpg.Pool, vault: Vault, network: str) -> None:
    """Try as often as one network may, at a moment."""
    async with pool.acquire() as tx, tx.transaction():
        for number in range(sign_ins.PER_NETWORK.tries):
            await sign_ins.begin(tx, vault, f"nobody{number}@example.com", network)


async def test_one_customers_addresses_are_one_network(site: Any, pool: asyncpg.Pool, vault: Vault) -> None:
    await use_up(pool, vault, "2001:db8:0:1::/64")
    async with at(site, "2001:db8:0:1::1") as first, at(site, "2001:db8:0:1:ffff::9") as last:
        assert [await guess(first), await guess(last)] == [429, 429]
    async with at(site, "2001:db8:0:2::1") as client:
        assert await guess(client) == 401


async def test_a_refused_network_leaves_nothing_behind(site: Any, pool: asyncpg.Pool, vault: Vault) -> None:
    async with pool.acquire() as tx, tx.transaction():
        for number in range(100):
            await sign_ins.begin(tx, vault, f"nobody{number}@example.com", HOME)
        assert await tx.fetchval("SELECT count(*) FROM throttles") <= 1 + 2 * 30


async def test_what_a_stranger_says_of_their_address_is_not_believed(own_service: Service) -> None:
    pool = await database.pool(own_service.database, size=1, name="tests")
    try:
        await use_up(pool, Vault(load(environ=own_service.environ).secret_keys), "127.0.0.1")
    finally:
        await pool.close()
    async with own_service.client() as client:
        assert await guess(client, **{"X-Forwarded-For": OFFICE}) == 429


@pytest.fixture
def behind_a_proxy(environ: dict[str, str]) -> None:
    environ["TOCSIN_TRUSTED_PROXIES"] = "192.0.2.0/24"


async def test_what_a_trusted_proxy_says_counts(
    behind_a_proxy: None, site: Any, pool: asyncpg.Pool, vault: Vault
) -> None:
    await use_up(pool, vault, OFFICE)
    async with at(site, HOME) as client:
        for said, status in ((f"{ELSEWHERE}, {OFFICE}", 429), (f"{OFFICE}, {ELSEWHERE}", 401), (OFFICE, 429)):
            assert await guess(client, **{"X-Forwarded-For": said}) == status


async def test_ten_bad_tries_lock_nobody_out_elsewhere(site: Any, pool: asyncpg.Pool, vault: Vault) -> None:
    await account(pool, vault)
    async with at(site, ELSEWHERE) as stranger, at(site, HOME) as ann:
        assert [await guess(stranger) for _ in range(11)] == [401] * 10 + [429]
        refused = await sign_in(stranger)
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await sign_in(ann)).status_code == 303


async def tries_from_everywhere(pool: asyncpg.Pool, vault: Vault) -> None:
    async with pool.acquire() as tx, tx.transaction():
        for number in range(sign_ins.PER_ACCOUNT.tries + 1):
            await sign_ins.begin(tx, vault, ANN, f"100.64.0.{number}")


async def test_tries_from_everywhere_are_slowed_down_but_not_where_somebody_has_signed_in_before(
    site: Any, pool: asyncpg.Pool, vault: Vault
) -> None:
    await account(pool, vault)
    async with at(site, HOME) as home, at(site, OFFICE) as office:
        assert (await sign_in(home)).status_code == 303
        await tries_from_everywhere(pool, vault)
        assert (await sign_in(office)).status_code == 429
        assert (await sign_in(home)).status_code == 303
        assert [await guess(home) for _ in range(11)] == [401] * 10 + [429], "a known network has its own limit still"


async def test_a_new_password_by_mail_opens_the_door_where_it_was_set(
    site: Any, pool: asyncpg.Pool, vault: Vault, settings: Settings
) -> None:
    await account(pool, vault)
    async with at(site, OFFICE) as office:
        await tries_from_everywhere(pool, vault)
        await office.post("/forgot-password", data={"email": ANN})
        [letter] = outbox(settings)
        link = next(each for each in letter.get_content().splitlines() if "token=" in each)  # type: ignore[attr-defined]
        form = {"token": link.partition("token=")[2], "password": "battery", "password_confirmation": "battery"}
        assert (await office.post("/new-password", data=form)).status_code == 303
        assert (await sign_in(office, password="battery")).status_code == 303


async def test_an_accounts_owner_is_told_once_that_somebody_tries(
    site: Any, pool: asyncpg.Pool, vault: Vault, settings: Settings
) -> None:
    await account(pool, vault)
    for address in (ELSEWHERE, OFFICE):
        async with at(site, address) as stranger:
            for _ in range(12):
                await guess(stranger)

    async def told() -> list[Any] | None:
        return outbox(settings) or None

    [letter] = await until(told, what="the letter")
    assert (letter["To"], letter["Subject"]) == (ANN, "Somebody is trying to sign in as you")
    await pool.execute("DELETE FROM throttles")
    await pool.execute("UPDATE users SET email_verified_at = NULL")
    async with at(site, ELSEWHERE) as stranger:
        for _ in range(12):
            await guess(stranger)
    assert len(outbox(settings)) == 1, "nobody is written to because a stranger registered their address"


async def test_changing_a_password_has_a_limit_of_its_own(site: Any, pool: asyncpg.Pool, vault: Vault) -> None:
    await account(pool, vault)
    async with at(site, HOME) as ann, at(site, ELSEWHERE) as stranger:
        await sign_in(ann)
        mark = await csrf(ann)
        for _ in range(11):
            await guess(stranger)
            await guess(ann)
        new = {"csrf": mark, "password": "battery", "password_confirmation": "battery"}
        wrong = [await ann.post("/account/password", data={**new, "old": "wrong"}) for _ in range(10)]
        assert {each.status_code for each in wrong} == {422}
        refused = await ann.post("/account/password", data={**new, "old": PASSWORD})
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        await pool.execute("DELETE FROM throttles")
        assert (await ann.post("/account/password", data={**new, "old": PASSWORD})).status_code == 303


async def test_no_more_networks_are_remembered_than_one_person_uses(pool: asyncpg.Pool, vault: Vault) -> None:
    user = await account(pool, vault)
    async with pool.acquire() as tx:
        for number in range(sign_ins.MAX_KNOWN + 5):
            await sign_ins.remember(tx, vault, user, f"100.64.0.{number}")
    assert await pool.fetchval("SELECT count(*) FROM known_networks") == sign_ins.MAX_KNOWN
