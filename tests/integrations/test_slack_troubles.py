"""Slack when something goes wrong: limits, deaths in the middle, messages and channels that are gone."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import httpx
import pytest

from tests.receivers import Mailbox
from tests.service import service_on
from tests.slack_scene import (
    _slack,
    _slack_service,
    connected,
    ended,
    incident,
    message,
    press,
    service,
    slack,
    until_told,
)
from tests.slack_server import SlackServer
from tests.slack_workspace import Workspace

__all__ = ["_slack", "_slack_service", "service", "slack"]


async def test_the_last_update_lands_after_a_rate_limit_and_not_before_its_time(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    uuid = await connected(client, slack, workspace)
    begun = await incident(client)
    posted = await message(slack, workspace, begun["incident_type"])
    slack.fail("chat.update", status=429, Retry_After="2")
    slack.fail("chat.update", "internal_error")
    slack.fail("chat.update", status=503)
    await client.post(f"/api/v1/incidents/{begun['uuid']}/resolve")
    assert await message(slack, workspace, "Resolved") is posted
    attempts = (await ended(client, uuid, "resolved"))["attempts"]
    assert [each["outcome"] for each in attempts] == ["failed", "failed", "failed", "delivered"]
    assert "ratelimited" in attempts[0]["error"]
    first, second = attempts[0]["started_at"], attempts[1]["started_at"]
    assert (_seconds(second) - _seconds(first)) >= 2


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


async def test_an_engine_killed_between_posting_and_storing_leaves_no_message_that_stays_wrong(
    database: str, tmp_path: Path, slack: SlackServer, workspace: Workspace
) -> None:
    service = service_on(database, tmp_path, **slack.environ())
    try:
        service.start()
        service.project = await service.new_project()
        async with service.client() as client:
            await connected(client, slack, workspace)
            slack.answers_go.clear()
            begun = await incident(client)
            orphan = await message(slack, workspace, begun["incident_type"])
            service.engine.kill()
            slack.answers_go.set()
            service.start()
            known = await message(slack, workspace, begun["incident_type"], 2)
            assert known is not orphan
            await client.post(f"/api/v1/incidents/{begun['uuid']}/resolve")
            await message(slack, workspace, "Resolved")
            assert orphan.button
            slack.told.clear()
            assert await press(client, slack, orphan) == 200
            await message(slack, workspace, "Resolved", 2)
            assert orphan.button is None
            assert "resolved already" in (await until_told(slack))[0]["text"]
    finally:
        service.stop()


async def test_an_engine_killed_in_the_middle_of_the_update_leaves_it_to_the_next(
    database: str, tmp_path: Path, slack: SlackServer, workspace: Workspace
) -> None:
    service = service_on(database, tmp_path, **slack.environ())
    try:
        service.start()
        service.project = await service.new_project()
        async with service.client() as client:
            uuid = await connected(client, slack, workspace)
            begun = await incident(client)
            posted = await message(slack, workspace, begun["incident_type"])
            await ended(client, uuid, "opened")
            slack.answers_go.clear()
            await client.post(f"/api/v1/incidents/{begun['uuid']}/resolve")
            await message(slack, workspace, "Resolved")
            service.engine.kill()
            slack.answers_go.set()
            service.start()
            assert (await ended(client, uuid, "resolved"))["status"] == "delivered"
            assert [posted] == [each for each in slack.in_(workspace) if "Resolved" in each.text]
    finally:
        service.stop()


async def test_a_message_that_was_taken_without_being_named_is_posted_once_and_its_end_as_another(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    uuid = await connected(client, slack, workspace)
    slack.fail("chat.postMessage", done=True, Content_Length="500", Connection="close")
    begun = await incident(client)
    posted = await message(slack, workspace, begun["incident_type"])
    opening = await ended(client, uuid, "opened")
    assert (opening["status"], len(opening["attempts"])) == ("delivered", 1)
    await client.post(f"/api/v1/incidents/{begun['uuid']}/resolve")
    assert await message(slack, workspace, "Resolved") is not posted
    assert (await ended(client, uuid, "resolved"))["status"] == "delivered"
    assert len([each for each in slack.in_(workspace) if begun["incident_type"] in each.words]) == 2


async def test_a_press_on_a_message_that_nobody_remembers_resolves_and_updates_it_too(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    uuid = await connected(client, slack, workspace)
    slack.fail("chat.postMessage", "internal_error", done=True)
    begun = await incident(client)
    await message(slack, workspace, begun["incident_type"], 2)
    await ended(client, uuid, "opened")
    orphan, known = [each for each in slack.in_(workspace) if each.button]
    assert await press(client, slack, orphan) == 200
    await message(slack, workspace, "Resolved", 2)
    assert orphan.button is known.button is None


async def test_a_renamed_channel_changes_nothing(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    await connected(client, slack, workspace)
    begun = await incident(client)
    posted = await message(slack, workspace, begun["incident_type"])
    workspace.channel = "#alarms-of-old"
    await client.post(f"/api/v1/incidents/{begun['uuid']}/resolve")
    assert await message(slack, workspace, "Resolved") is posted


async def test_a_message_that_was_deleted_is_followed_by_a_new_one_that_says_both(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    uuid = await connected(client, slack, workspace)
    begun = await incident(client)
    posted = await message(slack, workspace, begun["incident_type"])
    await ended(client, uuid, "opened")
    slack.messages.remove(posted)
    await client.post(f"/api/v1/incidents/{begun['uuid']}/resolve")
    again = await message(slack, workspace, "Resolved")
    assert begun["incident_type"] in again.words
    assert "Lasted" in again.words


async def test_a_bot_that_was_taken_out_of_the_channel_is_invited_again(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    await connected(client, slack, workspace)
    workspace.members.clear()
    begun = await incident(client)
    await message(slack, workspace, begun["incident_type"])
    assert workspace.bot_user_id in workspace.members


@pytest.mark.parametrize("trouble", ["token_revoked", "account_inactive", "is_archived", "channel_not_found"])
async def test_what_is_gone_for_good_disables_the_integration_and_people_are_told_another_way(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace, mailbox: Mailbox, trouble: str
) -> None:
    uuid = await connected(client, slack, workspace)
    address = f"{trouble}@example.com"
    mail = {"type": "Integrations::EmailIntegration", "settings": {"email": address}}
    assert (await client.post("/api/v1/integrations", json={"integration": mail})).status_code == 201
    if trouble == "is_archived":
        workspace.archived = True
    elif trouble == "channel_not_found":
        workspace.channel_id = "C0"
    else:
        workspace.trouble = trouble
    await incident(client)
    delivery = await ended(client, uuid, "opened")
    assert delivery["status"] == "dead"
    assert len(delivery["attempts"]) == 1
    health = (await client.get(f"/api/v1/integrations/{uuid}/health")).json()
    assert health["status"] == "disabled"
    assert trouble in health["reason"]
    [told] = await mailbox.arrivals(to=address)
    assert "My Workspace #alerts" in told.text
    assert trouble in told.text


async def test_a_test_is_posted_without_a_button(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    uuid = await connected(client, slack, workspace)
    assert (await client.post(f"/api/v1/integrations/{uuid}/test")).status_code == 202
    posted = await message(slack, workspace, "This is a test notification")
    assert posted.button is None
    assert (await ended(client, uuid, "test"))["status"] == "delivered"


async def test_a_redelivered_opening_shows_the_incident_as_it_stands(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    uuid = await connected(client, slack, workspace)
    begun = await incident(client)
    await message(slack, workspace, begun["incident_type"])
    await client.post(f"/api/v1/incidents/{begun['uuid']}/resolve")
    await message(slack, workspace, "Resolved")
    await ended(client, uuid, "resolved")
    first = await ended(client, uuid, "opened")
    assert (await client.post(f"/api/v1/deliveries/{first['uuid']}/redeliver")).status_code == 202
    posted = await message(slack, workspace, "Resolved", 2)
    assert posted.button is None


async def test_long_and_strange_words_are_cut_to_what_slack_takes(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    await connected(client, slack, workspace)
    begun = await incident(client, message="&<>|*_~`\n" * 200)
    posted = await message(slack, workspace, begun["incident_type"])
    assert await press(client, slack, posted, user="<!channel>\n" * 30) == 200
    await message(slack, workspace, "Resolved")
    assert "<!channel>" not in posted.words
