"""Tokens where others do not read them: on no command line that we show or run, and secrets in no reader's answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.users import bearer, token_of
from tocsin.storage.postgres.secrets import Vault
from tocsin.web import agent

ROOT = Path(__file__).parent.parent
SHOWN = [
    ROOT / "README.md", ROOT / "SECURITY.md", *(ROOT / "tocsin/web/templates").glob("*.html"),
    *(ROOT / "tocsin/web/static").glob("*.*"), *(ROOT / "tocsin/cli").glob("*.py"),
    *(ROOT / "tocsin/web").rglob("*.py"),
    *(ROOT / "tocsin/api").glob("docs.*"),
]  # fmt: skip
ON_A_LINE = (
    re.compile(r"--token(?:=|\s+)[\"']?(?:\$|tcp_|YOUR)"),
    re.compile(r"(?:-H|--header)\s*[\"']Authorization"),
    re.compile(r"\bTOCSIN_TOKEN=\S+\s+sudo\b"),
)


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_command_that_we_show_has_a_token_on_its_line(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    assert not [match[0] for each in ON_A_LINE for match in each.finditer(text)]


@pytest.mark.parametrize("install", [True, False])
def test_the_page_gives_the_token_on_standard_input(install: bool) -> None:
    first, second, third = agent.lines("https://tocsin.example.com", "tcp_secret", install=install).splitlines()
    assert "tcp_secret" not in first
    assert first.endswith(" --token-file -' <<'END'")
    assert (second, third) == ("tcp_secret", "END")


@pytest.fixture
def revealing(environ: dict[str, str]) -> None:
    environ["TOCSIN_REVEAL_SECRETS"] = "true"


async def test_revealed_secrets_are_shown_to_no_reader(
    revealing: None, app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, project: Any
) -> None:
    ssh = {"ip": "192.0.2.1", "username": "tocsin", "password": "s3ntinel-password"}
    body = {"integration": {"type": "Integrations::SshServerRestartIntegration", "settings": ssh}}
    made = (await app_client.post("/api/v1/integrations", json=body)).json()
    monitor = {"network_monitor": {"name": "Site", "url": "https://example.com/"}}
    watched = (await app_client.post("/api/v1/network_monitors", json=monitor)).json()["uuid"]
    place = f"/api/v1/network_monitors/{watched}/integrations"
    attached = await app_client.post(place, json={"integration_id": made["uuid"]})
    assert attached.status_code == 201
    reader, member = [bearer(await token_of(pool, vault, project, role)) for role in ("reader", "member")]
    for path in ("/api/v1/integrations", f"/api/v1/integrations/{made['uuid']}", place):
        shown = await app_client.get(path, headers=member)
        assert ssh["password"] in shown.text, path
        hidden = await app_client.get(path, headers=reader)
        assert hidden.status_code == 200
        assert ssh["password"] not in hidden.text, path
    for page in ("/integrations", f"/integrations/{made['uuid']}", f"/network_monitors/{watched}", "/settings"):
        seen = await app_client.get(page, headers={"Cookie": f"tocsin={reader['Authorization'].split()[1]}"})
        assert seen.status_code == 200
        assert ssh["password"] not in seen.text, page
