"""A service that is connected to Slack, and what people do there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.calls import alarm, new_server, opened
from tests.postgres import Postgres
from tests.receivers import Mailbox
from tests.service import Service, shared_service
from tests.slack_server import SlackServer
from tests.slack_workspace import Posted, Workspace
from tests.waiting import until

PUBLIC_URL = "https://tocsin.example.com"


@pytest.fixture(scope="module")
def _slack() -> Iterator[SlackServer]:
    slack = SlackServer()
    yield slack
    slack.close()


@pytest.fixture
def slack(_slack: SlackServer) -> Iterator[SlackServer]:
    yield _slack
    _slack.answers_go.set()
    assert not _slack.mistakes
    assert not _slack.faults


@pytest.fixture(scope="module")
def _slack_service(
    postgres: Postgres, _slack: SlackServer, _mail_server: Mailbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    with shared_service(
        postgres, tmp_path_factory.mktemp("slack"), _mail_server, **_slack.environ(), TOCSIN_PUBLIC_URL=PUBLIC_URL
    ) as service:
        yield service


@pytest_asyncio.fixture
async def service(_slack_service: Service) -> Service:
    _slack_service.project = await _slack_service.new_project()
    return _slack_service


async def connected(client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace) -> str:
    """The uuid of a new integration, attached to everything, made by consent; its announcement has arrived."""
    way = (await client.post("/api/v1/integrations/slack/initiate")).json()
    answer = await client.get(slack.consent(way["oauth_url"], workspace), headers={"Authorization": ""})
    assert (answer.status_code, answer.headers["location"]) == (303, "/integrations")
    [made] = [each for each in (await client.get("/api/v1/integrations")).json() if "Slack" in each["type"]]
    assert (await client.post(f"/api/v1/integrations/{made['uuid']}/attach_all")).status_code == 200
    await asyncio.to_thread(slack.wait_for, workspace, "This channel is connected")
    return str(made["uuid"])


async def incident(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    return dict((await opened(client, alarm(await new_server(client), **changes))).json())


async def message(slack: SlackServer, workspace: Workspace, text: str, count: int = 1) -> Posted:
    found = await asyncio.to_thread(slack.wait_for, workspace, text, count)
    assert len(found) == count
    return found[-1]


async def press(
    client: httpx.AsyncClient, slack: SlackServer, posted: Posted, label: str = "Resolve", **changes: Any
) -> int:
    headers, body = slack.press(posted, label, **changes)
    answer = await client.post("/slack/interactions", headers={"Authorization": "", **headers}, content=body)
    assert answer.elapsed.total_seconds() < 3
    return answer.status_code


async def ended(client: httpx.AsyncClient, uuid: str, event: str) -> dict[str, Any]:
    """The newest delivery of that kind with its attempts, once it has ended."""

    async def look() -> dict[str, Any] | None:
        found = (await client.get(f"/api/v1/integrations/{uuid}/deliveries?per_page=100")).json()["data"]
        of_kind = [each for each in found if each["event"] == event]
        return of_kind[0] if of_kind and of_kind[0]["finished_at"] else None

    found = await until(look, what=f"a delivery that tells {event} to end")
    return dict((await client.get(f"/api/v1/deliveries/{found['uuid']}")).json())


async def resolved(client: httpx.AsyncClient, uuid: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found = (await client.get(f"/api/v1/incidents/{uuid}")).json()
        return found if found["closed_at"] else None

    return await until(look, what="the incident to end")


async def until_told(slack: SlackServer) -> list[dict[str, Any]]:
    async def look() -> list[dict[str, Any]] | None:
        return list(slack.told) or None

    return await until(look, what="the presser to be told")
