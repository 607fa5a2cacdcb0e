"""SMS over the API: verifying a number and making the integration, as the specification prints it, and its limits."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.service import authorized, in_this_process, new_project
from tests.twilio import AUTH_TOKEN, FROM, SERVICE_SID, Twilio
from tocsin import settings as configuration
from tocsin.settings import Settings
from tocsin.storage.channels import phones
from tocsin.storage.postgres.secrets import Vault

NUMBER = "+1234567890"
SEND_CODE = "/api/v1/integrations/sms/send_verification_code"
SENT = {"success": True, "message": "Verification code sent successfully"}
PAID_PLAN_REQUIRED = {
    "success": False,
    "error": "paid_plan_required",
    "message": "SMS integrations require a paid plan",
}
PHONE_NUMBER_REQUIRED = {
    "success": False,
    "error": "phone_number_required",
    "message": "Phone number is required",
}


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    return {**environ, "TOCSIN_ENV": "production", "TOCSIN_SMS_PROVIDER": "outbox"}


def outbox(settings: Settings) -> list[str]:
    files = sorted(settings.outbox.glob("sms-*.txt")) if settings.outbox.exists() else []
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    return [file.read_text() for file in files]


def code_in(message: str) -> str:
    found = re.search(r"\b\d{6}\b", message)
    assert found, message
    return found[0]


async def send_code(client: httpx.AsyncClient, number: Any = NUMBER) -> httpx.Response:
    return await client.post(SEND_CODE, json={"phone_number": number})


async def create(client: httpx.AsyncClient, number: Any = NUMBER, **more: Any) -> httpx.Response:
    settings = {"phone_number": number, **more}
    body = {"integration": {"type": "Integrations::SmsIntegration", "settings": settings}}
    return await client.post("/api/v1/integrations", json=body)


async def verified(client: httpx.AsyncClient, settings: Settings, number: str = NUMBER) -> str:
    """A code that was sent for the number."""
    before = len(outbox(settings))
    assert (await send_code(client, number)).json() == SENT
    return code_in(outbox(settings)[before])


def refused(answer: httpx.Response, status: int, error: str) -> None:
    said = answer.json()
    assert (answer.status_code, said["success"], said["error"]) == (status, False, error), answer.text
    assert set(said) == {"success", "error", "message"}


def bad_code(answer: httpx.Response) -> bool:
    said = answer.json()
    assert (answer.status_code, said["error"]) == (422, "invalid_request"), answer.text
    assert [each["field"] for each in said["details"]] == ["settings.verification_code"]
    return True


# ------------------------------------------------------------------------------------------------------ the two steps


async def test_a_number_is_verified_and_the_integration_made_as_the_specification_prints(
    app_client: httpx.AsyncClient, settings: Settings
) -> None:
    answer = await send_code(app_client)
    assert (answer.status_code, answer.json()) == (200, SENT)
    [message] = outbox(settings)
    assert message.startswith(f"To: {NUMBER}\n")
    answer = await create(app_client, verification_code=code_in(message))
    assert answer.status_code == 201, answer.text
    said = answer.json()
    assert re.fullmatch("INT[0-9A-Z]{26}", said.pop("uuid"))
    assert said.pop("created_at") == said.pop("updated_at")
    assert said == {
        "type": "Integrations::SmsIntegration", "name": f"SMS {NUMBER}", "settings": {"phone_number": NUMBER},
        "editable": True, "deletable": True,
    }  # fmt: skip
    listed = (await app_client.get("/api/v1/integrations")).json()
    assert [each["name"] for each in listed] == [f"SMS {NUMBER}"]


async def test_without_a_paid_plan_both_steps_are_refused_as_printed(
    settings: Settings, pool: asyncpg.Pool, vault: Vault
) -> None:
    free = await new_project(pool, vault, plan="free")
    async with in_this_process(settings) as front, authorized(
        "http://tocsin.test", free.api_token, transport=httpx.ASGITransport(app=front)
    ) as client:
        for answer in (await send_code(client), await create(client, verification_code="123456")):
            assert (answer.status_code, answer.json()) == (403, PAID_PLAN_REQUIRED)
    assert not outbox(settings)


@pytest.mark.parametrize("body", [None, {}, {"phone_number": None}, {"phone_number": ""}])
async def test_a_missing_number_is_refused_as_printed(app_client: httpx.AsyncClient, body: Any) -> None:
    answer = await app_client.post(SEND_CODE, json=body) if body is not None else await app_client.post(SEND_CODE)
    assert (answer.status_code, answer.json()) == (422, PHONE_NUMBER_REQUIRED)


@pytest.mark.parametrize("number", ["12345678", "+0123456789", "+123456", "+1234567890123456", "+12 345 678", 5, True,
                                    [], {}, "+12345678\n", "+１２３４５６７８"])  # fmt: skip
async def test_what_is_no_e164_number_is_refused_at_both_steps(
    app_client: httpx.AsyncClient, settings: Settings, number: Any
) -> None:
    refused(await send_code(app_client, number), 422, "phone_number_invalid")
    answer = await create(app_client, number, verification_code="123456")
    assert (answer.status_code, answer.json()["details"][0]["field"]) == (422, "settings.phone_number")
    assert not outbox(settings)


@pytest.mark.parametrize(
    "number",
    [b"1e400", b"-1e400", b"9" * 50, b"9" * 5_000, b'"+1234567\\u0000"', b'"\\ud800"', b'"\\udc00\\ud800"',
     b'"\\ud83d\\ude00"', b"[[[1]]]", b'{"a": "\\u0000"}', b"true", b"0.1", b'"' + b"+" * 10_000 + b'"'],
)  # fmt: skip
async def test_no_bad_number_is_refused_in_another_shape_than_the_printed_one(
    app_client: httpx.AsyncClient, number: bytes
) -> None:
    answer = await app_client.post(SEND_CODE, content=b'{"phone_number": ' + number + b"}")
    refused(answer, 422, "phone_number_invalid")
    answer = await app_client.post(SEND_CODE, content=b'{"phone_number": ' + number + b"} x")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_without_a_token_nothing_is_sent(app_client: httpx.AsyncClient, settings: Settings) -> None:
    answer = await app_client.post(SEND_CODE, json={"phone_number": NUMBER}, headers={"Authorization": ""})
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
    assert not outbox(settings)


# ------------------------------------------------------------------------------------------------------------- codes


async def test_a_code_is_needed(app_client: httpx.AsyncClient) -> None:
    assert bad_code(await create(app_client))
    assert bad_code(await create(app_client, verification_code=123456))
    assert bad_code(await create(app_client, verification_code="123456"))


async def test_a_code_works_once(app_client: httpx.AsyncClient, settings: Settings) -> None:
    code = await verified(app_client, settings)
    assert (await create(app_client, verification_code=code)).status_code == 201
    assert bad_code(await create(app_client, verification_code=code))


async def test_a_code_works_once_when_it_is_used_at_once_by_many(
    app_client: httpx.AsyncClient, settings: Settings
) -> None:
    code = await verified(app_client, settings)
    answers = await asyncio.gather(*(create(app_client, verification_code=code) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 422, 422, 422]


async def test_many_tries_at_once_are_five_tries(app_client: httpx.AsyncClient, settings: Settings) -> None:
    code = await verified(app_client, settings)
    await asyncio.gather(*(create(app_client, verification_code="wrong") for _ in range(8)))
    assert bad_code(await create(app_client, verification_code=code))


async def test_a_code_is_for_its_number(app_client: httpx.AsyncClient, settings: Settings) -> None:
    code = await verified(app_client, settings)
    assert bad_code(await create(app_client, "+1234567891", verification_code=code))
    assert (await create(app_client, verification_code=code)).status_code == 201


async def test_a_code_is_for_its_project(settings: Settings, pool: asyncpg.Pool, vault: Vault) -> None:
    one, other = await new_project(pool, vault), await new_project(pool, vault)
    async with pool.acquire() as tx, tx.transaction():
        code = await phones.new_code(tx, vault, one.id, NUMBER)
        assert isinstance(code, str)
        assert await phones.redeem(tx, vault, other.id, NUMBER, code) == "none"
        assert await phones.redeem(tx, vault, one.id, NUMBER, code) == "right"


async def test_a_new_code_takes_the_place_of_the_old(app_client: httpx.AsyncClient, settings: Settings) -> None:
    old, new = await verified(app_client, settings), await verified(app_client, settings)
    assert old == new or bad_code(await create(app_client, verification_code=old))
    assert (await create(app_client, verification_code=new)).status_code == 201


async def test_a_code_is_worth_five_tries(app_client: httpx.AsyncClient, settings: Settings) -> None:
    code = await verified(app_client, settings)
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    for _ in range(5):
        assert bad_code(await create(app_client, verification_code=wrong))
    assert bad_code(await create(app_client, verification_code=code))


async def test_a_code_is_right_at_the_fifth_try(app_client: httpx.AsyncClient, settings: Settings) -> None:
    code = await verified(app_client, settings)
    for _ in range(4):
        assert bad_code(await create(app_client, verification_code="wrong"))
    assert (await create(app_client, verification_code=code)).status_code == 201


async def test_a_code_is_good_for_ten_minutes(
    app_client: httpx.AsyncClient, settings: Settings, pool: asyncpg.Pool
) -> None:
    code = await verified(app_client, settings)
    left = await pool.fetchval("SELECT extract(epoch FROM expires_at - now())::float8 FROM phone_codes")
    assert 590 < left <= 600
    await pool.execute("UPDATE phone_codes SET expires_at = expires_at - interval '10 min'")
    assert bad_code(await create(app_client, verification_code=code))


async def test_no_code_can_be_read_from_the_database(
    app_client: httpx.AsyncClient, settings: Settings, pool: asyncpg.Pool
) -> None:
    code = await verified(app_client, settings)
    [row] = await pool.fetch("SELECT * FROM phone_codes")
    assert code not in repr(dict(row))
    assert len(row["hash"]) == 32


async def test_the_number_cannot_be_exchanged_for_one_that_nobody_verified(
    app_client: httpx.AsyncClient, settings: Settings
) -> None:
    code = await verified(app_client, settings)
    uuid = (await create(app_client, verification_code=code)).json()["uuid"]
    path = f"/api/v1/integrations/{uuid}"
    answer = await app_client.patch(path, json={"integration": {"settings": {"phone_number": "+1234567891"}}})
    assert (answer.status_code, answer.json()["details"][0]["field"]) == (422, "settings.phone_number")
    answer = await app_client.patch(path, json={"integration": {"name": "On-call phone"}})
    assert (answer.status_code, answer.json()["name"]) == (200, "On-call phone")


# ------------------------------------------------------------------------------------------------------------ limits


async def test_a_number_gets_five_codes_an_hour_over_all_projects(
    app_client: httpx.AsyncClient, settings: Settings, pool: asyncpg.Pool, vault: Vault
) -> None:
    other = await new_project(pool, vault)
    for _ in range(2):
        async with pool.acquire() as tx, tx.transaction():
            assert isinstance(await phones.new_code(tx, vault, other.id, NUMBER), str)
    for _ in range(3):
        assert (await send_code(app_client)).status_code == 200
    answer = await send_code(app_client)
    refused(answer, 429, "too_many_codes")
    assert 3500 < int(answer.headers["retry-after"]) <= 3600
    assert len(outbox(settings)) == 3
    assert (await send_code(app_client, "+1234567891")).status_code == 200
    await pool.execute("UPDATE phone_codes_sent SET at = at - interval '1 hour'")
    assert (await send_code(app_client)).status_code == 200


async def test_a_project_sends_twenty_codes_a_day(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    for last in range(20):
        assert (await send_code(app_client, f"+12345678{last:02}")).status_code == 200
    answer = await send_code(app_client, "+1234567899")
    refused(answer, 429, "too_many_codes")
    assert 86_000 < int(answer.headers["retry-after"]) <= 86_400
    await pool.execute("UPDATE phone_codes_sent SET at = at - interval '1 day'")
    assert (await send_code(app_client, "+1234567899")).status_code == 200


class TestWhereCountriesAreLimited:
    @pytest.fixture
    def environ(self, environ: dict[str, str]) -> dict[str, str]:
        return {**environ, "TOCSIN_SMS_COUNTRIES": "AT,DE"}

    async def test_only_their_numbers_get_codes(self, app_client: httpx.AsyncClient) -> None:
        assert (await send_code(app_client, "+436641234567")).status_code == 200
        for number in ("+447400123456", NUMBER):
            answer = await send_code(app_client, number)
            refused(answer, 422, "phone_number_invalid")
            assert "AT, DE" in answer.json()["message"]


class TestOutsideProduction:
    @pytest.fixture
    def environ(self, environ: dict[str, str]) -> dict[str, str]:
        return {**environ, "TOCSIN_ENV": "development"}

    async def test_the_verification_code_check_is_skipped(self, app_client: httpx.AsyncClient) -> None:
        assert (await create(app_client)).status_code == 201
        assert (await create(app_client, verification_code="wrong")).status_code == 201


class TestWithoutProvider:
    @pytest.fixture
    def environ(self, environ: dict[str, str]) -> dict[str, str]:
        return {**environ, "TOCSIN_SMS_PROVIDER": ""}

    async def test_sms_is_off_with_a_clear_error(self, app_client: httpx.AsyncClient) -> None:
        answer = await send_code(app_client)
        refused(answer, 503, "sms_unavailable")
        assert "TOCSIN_SMS_PROVIDER" in answer.json()["message"]


# ------------------------------------------------------------------------------------------------------------ Twilio


class TestWithTwilio:
    @pytest.fixture
    def environ(self, environ: dict[str, str], twilio: Twilio) -> dict[str, str]:
        return {**environ, **twilio.environ()}

    async def test_the_code_is_sent_by_it(self, app_client: httpx.AsyncClient, twilio: Twilio) -> None:
        assert (await send_code(app_client)).json() == SENT
        [message] = twilio.messages
        assert dict(message.form) == {"To": NUMBER, "From": FROM, "Body": message.body}
        assert (await create(app_client, verification_code=code_in(message.body))).status_code == 201
        assert not twilio.mistakes

    async def test_a_number_that_it_refuses_for_good_is_invalid(
        self, app_client: httpx.AsyncClient, twilio: Twilio, pool: asyncpg.Pool
    ) -> None:
        twilio.refuse(400, 21614, "The 'To' number is not a valid mobile number.")
        answer = await send_code(app_client)
        refused(answer, 422, "phone_number_invalid")
        assert "21614" in answer.json()["message"]
        assert not await pool.fetchval("SELECT count(*) FROM phone_codes")

    async def test_trouble_that_passes_is_unavailable_and_shows_no_secret(
        self, app_client: httpx.AsyncClient, twilio: Twilio
    ) -> None:
        twilio.refuse(401, 20003, "Authenticate")
        answer = await send_code(app_client)
        refused(answer, 503, "sms_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert AUTH_TOKEN not in answer.text

    async def test_a_report_that_is_not_signed_is_refused(self, app_client: httpx.AsyncClient) -> None:
        answer = await app_client.post("/sms/reports/DLV" + "0" * 26, content="MessageStatus=delivered&MessageSid=SM1")
        assert answer.status_code == 403


class TestWithAMessagingService:
    @pytest.fixture
    def environ(self, environ: dict[str, str], twilio: Twilio) -> dict[str, str]:
        return {**environ, **twilio.environ(SERVICE_SID)}

    async def test_it_is_named_in_the_place_of_a_sender(self, app_client: httpx.AsyncClient, twilio: Twilio) -> None:
        assert (await send_code(app_client)).json() == SENT
        assert twilio.messages[0].form["MessagingServiceSid"] == SERVICE_SID
        assert not twilio.mistakes


def test_the_token_is_in_no_text_of_the_settings(tmp_path: Path, twilio: Twilio) -> None:
    loaded = configuration.load(environ={"TOCSIN_DATA_DIR": str(tmp_path), **twilio.environ()})
    assert AUTH_TOKEN not in repr(loaded)
