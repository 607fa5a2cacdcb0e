"""Acknowledging from where one was notified: by the link in a mail, and by replying to a text message."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.calls import alarm, new_server, opened
from tests.service import authorized, new_project
from tests.sms_scene import NUMBER, PUBLIC_URL, environ, new_phone
from tests.twilio import Twilio
from tests.waiting import until
from tocsin.domain import ids
from tocsin.engine import run as engine
from tocsin.settings import Settings
from tocsin.storage.accounts import links
from tocsin.storage.postgres.secrets import Vault

__all__ = ["environ"]

pytestmark = pytest.mark.usefixtures("running_engine")
REPLIES = f"{PUBLIC_URL}/sms/replies"


@pytest_asyncio.fixture
async def running_engine(settings: Settings, database: str) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(engine.run(settings, database, PUBLIC_URL, stop))
    yield
    stop.set()
    await task


async def incident(client: httpx.AsyncClient, server: str, kind: str = "disk_failure") -> str:
    return str((await opened(client, alarm(server, kind))).json()["uuid"])


async def who_has(client: httpx.AsyncClient, uuid: str) -> Any:
    return (await client.get(f"/api/v1/incidents/{uuid}")).json()["acknowledged_by"]


# ---------------------------------------------------------------------------------------------------------------- mail


async def mailed(settings: Settings, words: str) -> str:
    """The first mail that says so, decoded enough to be searched."""

    async def look() -> str | None:
        files: list[Path] = sorted(settings.outbox.glob("*.eml")) if settings.outbox.exists() else []
        return next((text for each in files if words in (text := each.read_text().replace("=\n", ""))), None)

    return await until(look, what=f"a mail that says {words!r}")


async def new_mailbox(client: httpx.AsyncClient, server: str) -> str:
    given = {"type": "Integrations::EmailIntegration", "settings": {"email": "alerts@example.com"}}
    uuid = str((await client.post("/api/v1/integrations", json={"integration": given})).json()["uuid"])
    body = {"integration_id": uuid}
    assert (await client.post(f"/api/v1/servers/{server}/integrations", json=body)).status_code == 201
    return uuid


async def test_looking_at_the_link_in_a_mail_changes_nothing_and_its_button_acknowledges(
    app_client: httpx.AsyncClient, visitor: httpx.AsyncClient, settings: Settings
) -> None:
    server = await new_server(app_client)
    await new_mailbox(app_client, server)
    uuid = await incident(app_client, server)
    link = re.search(r"/acknowledge\?token=[\w.-]+", await mailed(settings, "/acknowledge?token="))
    assert link
    asked = await visitor.get(link[0])
    assert "I have it" in asked.text
    assert "disk_failure on my-server" in asked.text
    assert await who_has(app_client, uuid) is None
    done = await visitor.post(link[0])
    assert done.status_code == 200
    assert "alerts@example.com by mail has it" in done.text
    assert await who_has(app_client, uuid) == "alerts@example.com by mail"
    again = await visitor.get(link[0])
    assert "I have it</button>" not in again.text
    assert (await visitor.post(link[0])).text == done.text
    await app_client.post(f"/api/v1/incidents/{uuid}/resolve")
    assert "is resolved already" in (await visitor.post(link[0])).text
    assert "/acknowledge" not in await mailed(settings, "Subject: Resolved")


async def test_a_link_is_for_its_incident_and_integration_only(
    app_client: httpx.AsyncClient, visitor: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    server = await new_server(app_client)
    mailbox = await new_mailbox(app_client, server)
    uuid = await incident(app_client, server)
    other = await new_project(pool, vault)
    async with authorized(PUBLIC_URL, other.api_token, transport=app_client._transport) as stranger:
        theirs = await new_mailbox(stranger, await new_server(stranger))
    [key, mine, foreign] = [
        ids.key_of(kind, each) for kind, each in ((ids.INCIDENT, uuid), (ids.INTEGRATION, mailbox),
                                                  (ids.INTEGRATION, theirs))
    ]  # fmt: skip
    good = links.acknowledgement(vault, "", key, mine)
    unsubscribing = links.unsubscribe(vault, "", mine).partition("token=")[2]
    for wrong in (
        "/acknowledge", good[:-1], f"{good}x", f"/acknowledge?token={unsubscribing}",
    ):  # fmt: skip
        assert (await visitor.post(wrong)).status_code == 400
        assert (await visitor.get(wrong)).status_code == 400
    for gone in (links.acknowledgement(vault, "", key, foreign), links.acknowledgement(vault, "", mine, mine)):
        assert "does not exist any more" in (await visitor.post(gone)).text
        assert "does not exist any more" in (await visitor.get(gone)).text
    assert await who_has(app_client, uuid) is None
    await app_client.delete(f"/api/v1/integrations/{mailbox}")
    assert "does not exist any more" in (await visitor.post(good)).text
    assert await who_has(app_client, uuid) is None


# ----------------------------------------------------------------------------------------------------------------- SMS


async def reply(client: httpx.AsyncClient, twilio: Twilio, text: str, number: str = NUMBER) -> str | None:
    """What is answered to a reply."""
    path, headers, body = twilio.reply(REPLIES, number, text)
    answer = await client.post(path, headers={"Authorization": "", **headers}, content=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/xml")
    document = ElementTree.fromstring(answer.text)
    assert document.tag == "Response"
    assert [each.tag for each in document] in ([], ["Message"])
    return document[0].text if len(document) else None


async def told(twilio: Twilio, count: int) -> None:
    await asyncio.to_thread(twilio.wait_for, count, to=NUMBER)


async def test_replying_ack_or_1_acknowledges_what_the_number_was_last_told(
    app_client: httpx.AsyncClient, twilio: Twilio
) -> None:
    server = await new_server(app_client, "web <1> & 2")
    await new_phone(app_client, server)
    first = await incident(app_client, server)
    await told(twilio, 1)
    assert await reply(app_client, twilio, " Ack. ") == "You have it: disk_failure on web <1> & 2"
    assert "by SMS" in await who_has(app_client, first)
    second = await incident(app_client, server, "memory_failure")
    await told(twilio, 2)
    assert await reply(app_client, twilio, "1") == "You have it: memory_failure on web <1> & 2"
    assert await reply(app_client, twilio, "1") == "You have it: memory_failure on web <1> & 2"
    await app_client.post(f"/api/v1/incidents/{second}/resolve")
    await app_client.post(f"/api/v1/incidents/{first}/resolve")
    await told(twilio, 4)
    assert (await reply(app_client, twilio, "ACK") or "").startswith("Resolved already: ")


async def test_other_texts_and_other_numbers_change_nothing(app_client: httpx.AsyncClient, twilio: Twilio) -> None:
    server = await new_server(app_client)
    await new_phone(app_client, server)
    uuid = await incident(app_client, server)
    await told(twilio, 1)
    for text in ("", "11", "hello", "acknowledge the following: …", "\x00", "STOP"):
        assert await reply(app_client, twilio, text) is None
    assert (await reply(app_client, twilio, "ack", "+15005550009") or "").startswith("There is nothing to acknowledge")
    for number in ("", "+", "TOCSIN", "12345"):
        assert await reply(app_client, twilio, "ack", number) is None
    assert await who_has(app_client, uuid) is None


async def test_who_was_first_is_said_and_an_old_message_means_nothing(
    app_client: httpx.AsyncClient, twilio: Twilio, pool: asyncpg.Pool
) -> None:
    server = await new_server(app_client)
    await new_phone(app_client, server)
    uuid = await incident(app_client, server)
    await told(twilio, 1)
    await app_client.post(f"/api/v1/incidents/{uuid}/acknowledge")
    assert (await reply(app_client, twilio, "ack") or "").endswith(" has it already: disk_failure on my-server")
    await app_client.post(f"/api/v1/incidents/{uuid}/unacknowledge")
    await pool.execute("UPDATE sms SET at = at - interval '25 h'")
    assert (await reply(app_client, twilio, "ack") or "").startswith("There is nothing to acknowledge")
    assert await who_has(app_client, uuid) is None


async def test_only_what_twilio_signed_counts(app_client: httpx.AsyncClient, twilio: Twilio) -> None:
    server = await new_server(app_client)
    await new_phone(app_client, server)
    uuid = await incident(app_client, server)
    await told(twilio, 1)
    path, headers, body = twilio.reply(REPLIES, NUMBER, "ack", token="another")
    elsewhere = twilio.reply("https://evil.example.com/sms/replies", NUMBER, "ack")
    right = twilio.reply(REPLIES, NUMBER, "ack")
    for signed, content in ((headers, body), (elsewhere[1], elsewhere[2]), ({}, body), (right[1], right[2] + b"&x=1"),
                            (right[1], b"\xff")):  # fmt: skip
        answer = await app_client.post(path, headers={"Authorization": "", **signed}, content=content)
        assert answer.status_code == 403
    assert await who_has(app_client, uuid) is None


async def test_twenty_an_hour_are_answered_to_a_number(app_client: httpx.AsyncClient, twilio: Twilio) -> None:
    said = [await reply(app_client, twilio, "ack", "+15005550010") for _ in range(22)]
    assert all(said[:20])
    assert said[20:] == [None, None]
