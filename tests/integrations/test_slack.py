"""Slack from an incident to its message and back, by real processes: posting, resolving, updating, what may fail."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.api.test_incidents import alarm, new_server, opened
from tests.conftest import Postgres, Service, service_on, shared_service
from tests.receivers import Mailbox
from tests.slack_server import Posted, SlackServer, Workspace
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


async def press(client: httpx.AsyncClient, slack: SlackServer, posted: Posted, **changes: Any) -> int:
    headers, body = slack.press(posted, **changes)
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


# ------------------------------------------------------------------------------------------------- messages, in place


async def test_a_message_says_what_where_since_when_with_a_link_and_a_button(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    await connected(client, slack, workspace)
    begun = await incident(client, message="CPU at 97 % & <rising> *fast*")
    posted = await message(slack, workspace, begun["incident_type"])
    for words in (begun["incident_type"], begun["monitorable_name"], "CPU at 97 % &amp; &lt;rising&gt;"):
        assert words in posted.words
    assert "since <!date^" in posted.words
    assert f"<{PUBLIC_URL}/incidents/{begun['uuid']}|" in posted.words
    assert posted.button
    assert posted.button["text"]["text"] == "Resolve"


async def test_the_message_is_updated_in_place_when_the_incident_ends_by_the_api(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    await connected(client, slack, workspace)
    begun = await incident(client)
    posted = await message(slack, workspace, begun["incident_type"])
    await client.post(f"/api/v1/incidents/{begun['uuid']}/resolve")
    assert await message(slack, workspace, "Resolved") is posted
    assert "Lasted " in posted.words
    assert "ended by: " in posted.words
    assert posted.button is None
    assert len(slack.in_(workspace)) == 2  # the announcement and this one


async def test_the_button_resolves_the_incident_and_the_message_says_by_whom(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    await connected(client, slack, workspace)
    begun = await incident(client)
    posted = await message(slack, workspace, begun["incident_type"])
    assert await press(client, slack, posted) == 200
    await resolved(client, begun["uuid"])
    assert await message(slack, workspace, "Resolved") is posted
    assert "ended by: ann in Slack" in posted.words
    assert not slack.told


async def test_a_second_press_says_who_was_first(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    await connected(client, slack, workspace)
    begun = await incident(client)
    posted = await message(slack, workspace, begun["incident_type"])
    second = slack.press(posted, user="ben")
    slack.told.clear()
    assert await press(client, slack, posted) == 200
    await message(slack, workspace, "Resolved")
    assert (await client.post("/slack/interactions", headers=second[0], content=second[1])).status_code == 200
    [told] = await until_told(slack)
    assert "resolved already: by ann in Slack" in told["text"]
    assert (told["response_type"], told["replace_original"]) == ("ephemeral", False)
    assert "ended by: ann in Slack" in posted.words
    slack.told.clear()


async def until_told(slack: SlackServer) -> list[dict[str, Any]]:
    async def look() -> list[dict[str, Any]] | None:
        return list(slack.told) or None

    return await until(look, what="the presser to be told")


async def test_two_who_press_at_once_are_one_resolve(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    await connected(client, slack, workspace)
    slack.told.clear()
    begun = await incident(client)
    posted = await message(slack, workspace, begun["incident_type"])
    presses = [slack.press(posted, user=user) for user in ("ann", "ben", "cat")]
    answers = await asyncio.gather(
        *(client.post("/slack/interactions", headers=headers, content=body) for headers, body in presses)
    )
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    await message(slack, workspace, "Resolved")

    async def two() -> bool:
        return len(slack.told) == 2

    await until(two, what="the other two to be told")
    [winner] = {told["text"].partition("by ")[2].partition(" in Slack")[0] for told in slack.told}
    assert f"ended by: {winner} in Slack" in posted.words
    slack.told.clear()


async def test_only_what_slack_signed_within_five_minutes_counts(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    await connected(client, slack, workspace)
    begun = await incident(client)
    posted = await message(slack, workspace, begun["incident_type"])
    assert await press(client, slack, posted, secret="another app's") == 401
    assert await press(client, slack, posted, at=time.time() - 301) == 401
    assert await press(client, slack, posted, at=time.time() + 400) == 401
    headers, body = slack.press(posted)
    for wrong in ({}, {**headers, "X-Slack-Signature": "v0=" + "0" * 64},
                  {**headers, "X-Slack-Request-Timestamp": "soon"}):  # fmt: skip
        assert (await client.post("/slack/interactions", headers=wrong, content=body)).status_code == 401
    assert (await client.post("/slack/interactions", headers=headers, content=body + b"&x=1")).status_code == 401
    assert (await client.post("/slack/interactions", headers=headers, content=b"\xff")).status_code == 401
    assert (await client.get(f"/api/v1/incidents/{begun['uuid']}")).json()["closed_at"] is None
    assert await press(client, slack, posted, at=time.time() - 290) == 200
    await message(slack, workspace, "Resolved")


async def test_a_press_in_another_workspace_resolves_nothing(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    await connected(client, slack, workspace)
    begun = await incident(client)
    posted = await message(slack, workspace, begun["incident_type"])
    other = {"id": slack.workspace("Another").id, "domain": "another"}
    assert await press(client, slack, posted, team=other) == 200
    guest = {"id": "U9", "name": "eve", "team_id": other["id"]}
    _, body = slack.press(posted)
    said = json.loads(httpx.QueryParams(body.decode())["payload"])
    said["user"] = guest
    signed = slack.signed(str(httpx.QueryParams({"payload": json.dumps(said)})).encode())
    assert (await client.post("/slack/interactions", headers=signed[0], content=signed[1])).status_code == 200
    assert (await client.get(f"/api/v1/incidents/{begun['uuid']}")).json()["closed_at"] is None


async def test_what_is_signed_but_no_press_of_ours_is_answered_and_changes_nothing(
    client: httpx.AsyncClient, slack: SlackServer
) -> None:
    for body in (b"", b"ssl_check=1", b"payload=", b"payload=[]", b"payload=%7B%22type%22%3A%22view_closed%22%7D"):
        headers, body = slack.signed(body)
        assert (await client.post("/slack/interactions", headers=headers, content=body)).status_code == 200


# ------------------------------------------------------------------------------------------------- what may go wrong


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
