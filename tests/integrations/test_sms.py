"""SMS from an incident to Twilio and back: what is sent, what its answers mean, what it reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.calls import alarm, new_server, opened
from tests.sms_scene import NUMBER, PUBLIC_URL, environ, new_phone
from tests.twilio import FROM, SERVICE_SID, Ending, Message, Twilio
from tests.waiting import until
from tocsin.domain.deliveries import Delivered, Failed
from tocsin.domain.incidents import Notification
from tocsin.engine import run as engine
from tocsin.integrations.base import Transports
from tocsin.integrations.sms import SmsIntegration
from tocsin.settings import Settings
from tocsin.transports.guard import Guard
from tocsin.transports.http import Http
from tocsin.transports.sms import sms_sender
from tocsin.transports.smtp import Mailer

__all__ = ["environ"]


@pytest_asyncio.fixture
async def running_engine(settings: Settings, database: str) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(engine.run(settings, database, PUBLIC_URL, stop))
    yield
    stop.set()
    await task


async def ended(client: httpx.AsyncClient, phone: str, count: int = 1) -> list[dict[str, Any]]:
    """The phone's deliveries with their attempts, oldest first, once so many have ended."""

    async def look() -> list[dict[str, Any]] | None:
        found = (await client.get(f"/api/v1/integrations/{phone}/deliveries?per_page=100")).json()["data"]
        return found if sum(each["finished_at"] is not None for each in found) >= count else None

    found = await until(look, what=f"{count} deliveries to end")
    return [(await client.get(f"/api/v1/deliveries/{each['uuid']}")).json() for each in reversed(found)]


async def report(
    client: httpx.AsyncClient, twilio: Twilio, message: Message, status: str, *said: Any, **more: Any
) -> int:
    path, headers, body = twilio.report(message, status, *said, **more)
    return (await client.post(path, headers={"Authorization": "", **headers}, content=body)).status_code


# --------------------------------------------------------------------------------------------------------- end to end


@pytest.mark.usefixtures("running_engine")
async def test_an_incident_and_its_end_are_texted(app_client: httpx.AsyncClient, twilio: Twilio) -> None:
    server = await new_server(app_client)
    phone = await new_phone(app_client, server)
    incident = (await opened(app_client, alarm(server))).json()
    [delivery] = await ended(app_client, phone)
    [message] = twilio.to(NUMBER)
    assert delivery["status"] == "delivered"
    assert delivery["attempts"][0]["status_code"] == 201
    assert delivery["attempts"][0]["response"] == f"{message.sid}: queued"
    assert dict(message.form) == {
        "To": NUMBER, "From": FROM, "Body": message.body,
        "StatusCallback": f"{PUBLIC_URL}/sms/reports/{delivery['uuid']}",
    }  # fmt: skip
    assert incident["monitorable_name"] in message.body
    assert incident["incident_type"] in message.body
    assert datetime.now(UTC).strftime(" since %d %b ") in message.body
    await app_client.post(f"/api/v1/incidents/{incident['uuid']}/resolve")
    await ended(app_client, phone, 2)
    assert twilio.to(NUMBER)[1].body.startswith(f"Resolved: {incident['incident_type']} on ")
    assert " after " in twilio.to(NUMBER)[1].body


@pytest.mark.usefixtures("running_engine")
async def test_the_log_says_delivered_when_twilio_says_so(app_client: httpx.AsyncClient, twilio: Twilio) -> None:
    server = await new_server(app_client)
    phone = await new_phone(app_client, server)
    await opened(app_client, alarm(server))
    await ended(app_client, phone)
    [message] = twilio.to(NUMBER)
    for status in ("queued", "sent", "delivered"):
        assert await report(app_client, twilio, message, status) == 204
    [delivery] = await ended(app_client, phone)
    assert (delivery["status"], delivery["reason"]) == ("delivered", None)
    assert delivery["attempts"][0]["response"] == f"{message.sid}: delivered"


@pytest.mark.usefixtures("running_engine")
async def test_the_log_says_twilio_s_error_when_the_phone_did_not_get_it(
    app_client: httpx.AsyncClient, twilio: Twilio
) -> None:
    server = await new_server(app_client)
    phone = await new_phone(app_client, server)
    await opened(app_client, alarm(server))
    await ended(app_client, phone)
    [message] = twilio.to(NUMBER)
    assert await report(app_client, twilio, message, "undelivered", 30003) == 204
    assert await report(app_client, twilio, message, "delivered") == 204  # of another part: it changes nothing
    [delivery] = await ended(app_client, phone)
    assert delivery["status"] == "dead"
    assert "30003" in delivery["reason"]
    [attempt] = delivery["attempts"]
    assert (attempt["outcome"], attempt["error"]) == ("failed", delivery["reason"])
    health = (await app_client.get(f"/api/v1/integrations/{phone}/health")).json()
    assert (health["status"], health["reason"]) == ("failing", delivery["reason"])


async def test_a_report_that_comes_before_the_record_of_the_try_is_not_lost(
    app_client: httpx.AsyncClient, twilio: Twilio, settings: Settings, database: str
) -> None:
    server = await new_server(app_client)
    phone = await new_phone(app_client, server)
    await opened(app_client, alarm(server))
    [waiting] = (await app_client.get(f"/api/v1/integrations/{phone}/deliveries")).json()["data"]
    twilio.next_sid = "SM" + "f" * 32
    form = {"To": NUMBER, "StatusCallback": f"{PUBLIC_URL}/sms/reports/{waiting['uuid']}"}
    early = Message(twilio.next_sid, form)
    assert await report(app_client, twilio, early, "undelivered", 30005) == 204
    stop = asyncio.Event()
    task = asyncio.create_task(engine.run(settings, database, PUBLIC_URL, stop))
    [delivery] = await ended(app_client, phone)
    assert delivery["status"] == "dead"
    assert "30005" in delivery["reason"]
    stop.set()
    await task


@pytest.mark.usefixtures("running_engine")
async def test_a_report_with_a_wrong_signature_changes_nothing(app_client: httpx.AsyncClient, twilio: Twilio) -> None:
    server = await new_server(app_client)
    phone = await new_phone(app_client, server)
    await opened(app_client, alarm(server))
    await ended(app_client, phone)
    [message] = twilio.to(NUMBER)
    assert await report(app_client, twilio, message, "failed", 30008, token="another account's") == 403
    path, headers, body = twilio.report(message, "delivered")
    forged = body.replace(b"=delivered", b"=failed")
    assert (await app_client.post(path, headers=headers, content=forged)).status_code == 403
    assert (await app_client.post(path[:-1] + "Z", headers=headers, content=body)).status_code == 403
    assert (await app_client.post(path, headers={}, content=body)).status_code == 403
    assert (await ended(app_client, phone))[0]["status"] == "delivered"


@pytest.mark.usefixtures("running_engine")
async def test_a_project_that_falls_back_to_free_keeps_the_integration_and_is_told_why_nothing_is_sent(
    app_client: httpx.AsyncClient, twilio: Twilio, pool: asyncpg.Pool
) -> None:
    server = await new_server(app_client)
    phone = await new_phone(app_client, server)
    await pool.execute("UPDATE projects SET plan = 'free'")
    await opened(app_client, alarm(server))
    [delivery] = await ended(app_client, phone)
    assert delivery["status"] == "suppressed"
    assert "paid plan" in delivery["reason"]
    assert not twilio.messages
    assert (await app_client.get(f"/api/v1/integrations/{phone}")).status_code == 200


@pytest.mark.usefixtures("running_engine")
async def test_what_passes_is_tried_again_and_what_is_permanent_is_not(
    app_client: httpx.AsyncClient, twilio: Twilio
) -> None:
    server = await new_server(app_client)
    phone = await new_phone(app_client, server)
    twilio.refuse(503, 20503, "Service unavailable")
    await opened(app_client, alarm(server))
    [delivery] = await ended(app_client, phone)
    assert [each["outcome"] for each in delivery["attempts"]] == ["failed", "delivered"]
    twilio.refuse(400, 21610, "Attempt to send to unsubscribed recipient")
    await opened(app_client, {**alarm(server), "incident_type": "another"})
    delivery = (await ended(app_client, phone, 2))[1]
    assert (delivery["status"], delivery["attempts_count"]) == ("dead", 1)
    assert "21610" in delivery["reason"]


@pytest.mark.usefixtures("running_engine")
async def test_above_ten_incidents_at_once_one_message_tells_of_the_rest(
    app_client: httpx.AsyncClient, twilio: Twilio, pool: asyncpg.Pool
) -> None:
    server = await new_server(app_client)
    phone = await new_phone(app_client, server)
    for number in range(15):
        await opened(app_client, {**alarm(server), "incident_type": f"trouble_{number}"})
    found = await ended(app_client, phone, 15)
    assert len(twilio.to(NUMBER)) == 10
    suppressed = [each for each in found if each["status"] == "suppressed"]
    assert len(suppressed) == 5
    [summary] = [each for each in found if each["event"] == "notice"]
    assert all(summary["uuid"] in each["reason"] for each in suppressed)
    assert summary["status"] == "pending"
    wait = datetime.fromisoformat(summary["due_at"]) - datetime.fromisoformat(summary["created_at"])
    assert 59 <= wait.total_seconds() <= 61
    await pool.execute("UPDATE outstanding SET due_at = now()")
    found = await ended(app_client, phone, 16)
    body = twilio.to(NUMBER)[10].body
    assert body.startswith("5 more incidents within 5 min, 5 ongoing: trouble_1")
    assert body.endswith(f"{PUBLIC_URL}/incidents")
    # What comes after it is for the next, which waits until the first is five minutes old.
    await opened(app_client, {**alarm(server), "incident_type": "one_more"})
    found = await ended(app_client, phone, 17)
    [_, second] = [each for each in found if each["event"] == "notice"]
    wait = datetime.fromisoformat(second["due_at"]) - datetime.fromisoformat(summary["created_at"])
    assert wait.total_seconds() > 300
    assert len(twilio.to(NUMBER)) == 11


@pytest.mark.usefixtures("running_engine")
async def test_a_hundred_incidents_in_one_moment_are_ten_messages_and_a_summary(
    app_client: httpx.AsyncClient, twilio: Twilio, pool: asyncpg.Pool
) -> None:
    server = await new_server(app_client)
    phone = await new_phone(app_client, server)
    await opened(app_client, *({**alarm(server), "incident_type": f"trouble_{number}"} for number in range(99)))
    await ended(app_client, phone, 99)
    assert len(twilio.to(NUMBER)) == 10
    await pool.execute("UPDATE outstanding SET due_at = now()")
    await asyncio.to_thread(twilio.wait_for, 11, to=NUMBER)
    assert twilio.to(NUMBER)[10].body.startswith("89 more incidents within 5 min, 89 ongoing: ")


# ------------------------------------------------------------------------------------------------ what answers mean


@pytest_asyncio.fixture
async def wires(settings: Settings) -> AsyncIterator[Transports]:
    http = Http(Guard())
    sms = sms_sender(settings)
    assert sms is not None
    yield Transports(http, Mailer(None, "tocsin@example.com", settings.outbox), PUBLIC_URL, sms=sms)
    await sms.close()
    await http.close()


OPENED = Notification("DLV1", "opened", "INC1", "Server", "web-1", "", "cpu", "CPU at 97 %", datetime.now(UTC))


@pytest.mark.parametrize(
    ("status", "code", "retry"),
    [
        (400, 21211, "never"), (400, 21610, "never"), (400, 21614, "never"), (400, 21635, "never"),
        (400, 21606, "twice"), (400, 99999, "twice"), (401, 20003, "scheduled"), (404, 20404, "scheduled"),
        (429, 20429, "scheduled"), (500, 20500, "scheduled"), (503, 20503, "scheduled"),
    ],
)  # fmt: skip
async def test_what_twilio_s_errors_mean(
    wires: Transports, twilio: Twilio, status: int, code: int, retry: str
) -> None:
    twilio.refuse(status, code, "In words")
    outcome = await SmsIntegration().send({"phone_number": NUMBER}, OPENED, wires)
    assert isinstance(outcome, Failed)
    assert (outcome.retry, outcome.status_code, outcome.retry_after) == (retry, status, None)
    assert f"error {code}: In words" in outcome.error


@pytest.mark.parametrize("ending", ["garbage", "cut"])
async def test_a_message_that_twilio_took_is_delivered_whatever_becomes_of_the_rest_of_its_answer(
    wires: Transports, twilio: Twilio, ending: Ending
) -> None:
    twilio.ending = ending
    outcome = await SmsIntegration().send({"phone_number": NUMBER}, OPENED, wires)
    assert isinstance(outcome, Delivered), "another try would be another message, and paid for"
    assert outcome.status_code == 201
    assert len(twilio.messages) == 1


async def test_the_wait_that_twilio_asks_for_is_honoured(wires: Transports, twilio: Twilio) -> None:
    twilio.refuse(429, 20429, "Too Many Requests", Retry_After="17")
    outcome = await SmsIntegration().send({"phone_number": NUMBER}, OPENED, wires)
    assert isinstance(outcome, Failed)
    assert (outcome.retry, outcome.retry_after) == ("scheduled", 17.0)


async def test_without_answer_it_is_tried_again_and_no_secret_is_told(wires: Transports, twilio: Twilio) -> None:
    twilio.close()
    outcome = await SmsIntegration().send({"phone_number": NUMBER}, OPENED, wires)
    assert isinstance(outcome, Failed)
    assert outcome.retry == "scheduled"
    assert "refused" in outcome.error


class TestWithAMessagingService:
    @pytest.fixture
    def environ(self, environ: dict[str, str]) -> dict[str, str]:
        return {**environ, "TOCSIN_TWILIO_FROM": SERVICE_SID}

    async def test_it_is_taken_as_accepted(self, wires: Transports, twilio: Twilio) -> None:
        outcome = await SmsIntegration().send({"phone_number": NUMBER}, OPENED, wires)
        assert isinstance(outcome, Delivered)
        assert outcome.response.endswith(": accepted")
        assert "From" not in twilio.messages[0].form


class TestWithTheOutbox:
    @pytest.fixture
    def environ(self, environ: dict[str, str]) -> dict[str, str]:
        return {**environ, "TOCSIN_SMS_PROVIDER": "outbox"}

    async def test_a_message_is_a_file_that_only_its_owner_can_read(
        self, wires: Transports, settings: Settings
    ) -> None:
        outcome = await SmsIntegration().send({"phone_number": NUMBER}, OPENED, wires)
        assert isinstance(outcome, Delivered)
        [file] = settings.outbox.iterdir()
        assert file.name in outcome.response
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.read_text().startswith(f"To: {NUMBER}\n\ncpu on web-1 since ")


class TestWhereCountriesAreLimited:
    @pytest.fixture
    def environ(self, environ: dict[str, str]) -> dict[str, str]:
        return {**environ, "TOCSIN_SMS_COUNTRIES": "AT"}

    async def test_nothing_is_sent_to_others(self, wires: Transports, twilio: Twilio) -> None:
        outcome = await SmsIntegration().send({"phone_number": "+447400123456"}, OPENED, wires)
        assert isinstance(outcome, Failed)
        assert outcome.retry == "never"
        assert not twilio.messages
