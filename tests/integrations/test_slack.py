"""Slack from an incident to its message and back, by real processes: posting, resolving, updating."""

from __future__ import annotations

import asyncio
import json
import time

import httpx

from tests.slack_scene import (
    PUBLIC_URL,
    _slack,
    _slack_service,
    connected,
    incident,
    message,
    press,
    resolved,
    service,
    slack,
    until_told,
)
from tests.slack_server import SlackServer
from tests.slack_workspace import Workspace
from tests.waiting import until

__all__ = ["_slack", "_slack_service", "service", "slack"]


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
    assert "resolved by: " in posted.words
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
    assert "resolved by: ann in Slack" in posted.words
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
    assert "resolved by: ann in Slack" in posted.words
    slack.told.clear()


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
    assert f"resolved by: {winner} in Slack" in posted.words
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


async def test_a_button_acknowledges_the_incident_and_the_message_says_who_has_it(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    await connected(client, slack, workspace)
    begun = await incident(client)
    posted = await message(slack, workspace, begun["incident_type"])
    assert list(posted.buttons) == ["Acknowledge", "Resolve"]
    second = slack.press(posted, "Acknowledge", user="ben")
    slack.told.clear()
    assert await press(client, slack, posted, "Acknowledge") == 200

    async def updated() -> bool:
        return "ann in Slack has it" in posted.words

    await until(updated, what="the message to say who has it")
    assert list(posted.buttons) == ["Resolve"]
    assert (await client.get(f"/api/v1/incidents/{begun['uuid']}")).json()["acknowledged_by"] == "ann in Slack"
    assert (await client.post("/slack/interactions", headers=second[0], content=second[1])).status_code == 200
    [told] = await until_told(slack)
    assert told["text"] == "ann in Slack has it already."
    slack.told.clear()
    assert await press(client, slack, posted) == 200
    assert await message(slack, workspace, "Resolved") is posted


async def test_an_acknowledgement_by_the_api_updates_the_message_too(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    await connected(client, slack, workspace)
    begun = await incident(client)
    posted = await message(slack, workspace, begun["incident_type"])
    assert (await client.post(f"/api/v1/incidents/{begun['uuid']}/acknowledge")).status_code == 200

    async def updated() -> bool:
        return " has it" in posted.words

    await until(updated, what="the message to say that somebody has it")
    assert len(slack.in_(workspace)) == 2


async def test_an_acknowledgement_that_is_taken_back_is_taken_out_of_the_message(
    client: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    await connected(client, slack, workspace)
    begun = await incident(client)
    posted = await message(slack, workspace, begun["incident_type"])
    for call, buttons in (("acknowledge", ["Resolve"]), ("unacknowledge", ["Acknowledge", "Resolve"])):
        assert (await client.post(f"/api/v1/incidents/{begun['uuid']}/{call}")).status_code == 200

        async def updated(wanted: list[str] = buttons) -> bool:
            return list(posted.buttons) == wanted

        await until(updated, what=f"the message to follow: {call}")
    assert " has it" not in posted.words
    assert len(slack.in_(workspace)) == 2
