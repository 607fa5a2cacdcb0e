"""The specification's section "Slack Integration", by running what it prints.

What may go wrong: tests/integrations/test_slack*.py.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx

from tests.service import Service
from tests.slack_scene import PUBLIC_URL, _slack, _slack_service, connected, incident, message, press, service, slack
from tests.slack_server import CLIENT_ID, SlackServer
from tests.slack_workspace import Workspace
from tests.specification import TIME, UUID, curl

__all__ = ["_slack", "_slack_service", "service", "slack"]

INITIATE = r"""
curl -X POST https://app.uptinio.com/api/v1/integrations/slack/initiate \
  -H "Authorization: Bearer YOUR_PROJECT_API_TOKEN" \
  -H "Content-Type: application/json"
"""

PRINTED_FIELDS = [
    "uuid", "type", "name", "settings", "editable", "deletable", "created_at", "updated_at",
]  # fmt: skip


async def test_oauth_is_initiated_as_printed(service: Service, slack: SlackServer) -> None:
    said = await curl(service, INITIATE)
    assert said.status == 200
    assert list(said.json) == ["oauth_url", "state", "redirect_uri"]
    assert re.fullmatch(
        rf"{PUBLIC_URL}/auth/slack/callback\?project_uuid=PRJ[0-9A-Z]+", said.json["redirect_uri"]
    )
    assert re.match(
        rf"{slack.url}/oauth/v2/authorize\?client_id=[^&]+&redirect_uri=[^&]+&state=[^&]+", said.json["oauth_url"]
    )
    asked = parse_qs(urlsplit(said.json["oauth_url"]).query)
    assert asked["client_id"] == [CLIENT_ID]
    assert asked["redirect_uri"] == [said.json["redirect_uri"]]
    assert asked["state"] == [said.json["state"]]


async def test_after_the_oauth_completion_the_integration_reads_as_printed(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    uuid = await connected(client, slack, workspace)
    said = (await client.get(f"/api/v1/integrations/{uuid}")).json()
    assert list(said) == PRINTED_FIELDS
    assert UUID.match(said["uuid"])
    assert TIME.match(said["created_at"])
    assert TIME.match(said["updated_at"])
    assert {name: said[name] for name in ("type", "name", "editable", "deletable")} == {
        "type": "Integrations::SlackIntegration", "name": "My Workspace #alerts", "editable": False, "deletable": True,
    }  # fmt: skip
    assert said["settings"] == {
        "bot_token": "xoxb-...",
        "user_token": "xoxp-...",
        "channel_id": workspace.channel_id,
        "webhook_url": "https://hooks.slack.com/services/...",
        "bot_user_id": workspace.bot_user_id,
    }


async def test_note_after_authorization_the_user_is_redirected_to_the_integrations_page_and_the_integration_is_there(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    way = (await client.post("/api/v1/integrations/slack/initiate")).json()
    answer = await client.get(slack.consent(way["oauth_url"], workspace), headers={"Authorization": ""})
    assert (answer.status_code, answer.headers["location"]) == (303, "/integrations")
    listed = (await client.get("/api/v1/integrations")).json()
    assert [each["type"] for each in listed] == ["Integrations::SlackIntegration"]


async def test_note_slack_integrations_are_not_editable_after_creation(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    path = f"/api/v1/integrations/{await connected(client, slack, workspace)}"
    changed = await client.patch(path, json={"integration": {"settings": {"channel_id": "C2"}}})
    assert (changed.status_code, changed.json()["error"]) == (422, "unprocessable_entity")
    assert (await client.get(path)).json()["settings"]["channel_id"] == workspace.channel_id
    assert (await client.delete(path)).status_code == 204


async def test_notifications_have_a_button_that_resolves_the_incident_and_are_updated_when_it_is_resolved(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    await connected(client, slack, workspace)
    opened = await incident(client)
    posted = await message(slack, workspace, opened["error_message"])
    assert posted.button
    assert posted.button["text"]["text"] == "Resolve"
    assert await press(client, slack, posted) == 200
    assert (await client.get(f"/api/v1/incidents/{opened['uuid']}")).json()["status"] == "resolved"
    updated = await message(slack, workspace, "Resolved")
    assert updated.ts == posted.ts
    assert updated.button is None


async def test_the_settings_are_encrypted_in_the_database(
    service: Service, client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    await connected(client, slack, workspace)
    connection = await asyncpg.connect(service.database)
    try:
        rows = str([tuple(row) for row in await connection.fetch("SELECT * FROM integrations")])
    finally:
        await connection.close()
    assert workspace.channel_id in rows
    for secret in (workspace.bot_token, workspace.user_token, "h00k-s3cret"):
        assert secret not in rows
