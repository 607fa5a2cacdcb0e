"""The specification's section "SMS Integration", by running what it prints.

Codes in production: tests/api/test_sms.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.calls import attach_to_all, integration
from tests.service import Service
from tests.specification import assert_as_printed, curl, monitor_of_the_example, open_timeout
from tests.waiting import poll

NUMBER = "+1234567890"

SEND_CODE = r"""
curl -X POST https://app.uptinio.com/api/v1/integrations/sms/send_verification_code \
  -H "Authorization: Bearer YOUR_PROJECT_API_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "phone_number": "+1234567890"
  }'
"""

CREATE_SMS = r"""
curl -X POST https://app.uptinio.com/api/v1/integrations \
  -H "Authorization: Bearer YOUR_PROJECT_API_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "integration": {
      "type": "Integrations::SmsIntegration",
      "settings": {
        "phone_number": "+1234567890",
        "verification_code": "123456"
      }
    }
  }'
"""

SENT = {"success": True, "message": "Verification code sent successfully"}
PAID_PLAN_REQUIRED = {
    "success": False, "error": "paid_plan_required", "message": "SMS integrations require a paid plan",
}  # fmt: skip
PHONE_NUMBER_REQUIRED = {
    "success": False, "error": "phone_number_required", "message": "Phone number is required",
}  # fmt: skip

SMS_CREATED = """
{
  "uuid": "INT123",
  "type": "Integrations::SmsIntegration",
  "name": "SMS +1234567890",
  "settings": {
    "phone_number": "+1234567890"
  },
  "editable": true,
  "deletable": true,
  "created_at": "2024-01-01T00:00:00Z",
  "updated_at": "2024-01-01T00:00:00Z"
}
"""


def texts(service: Service, number: str) -> list[str]:
    """What was sent to the number, oldest first; the service has an outbox as its provider."""
    folder = Path(service.environ["TOCSIN_DATA_DIR"]) / "outbox"
    files = sorted(folder.glob("sms-*.txt"), key=lambda file: file.stat().st_mtime_ns) if folder.exists() else []
    return [text for text in (file.read_text() for file in files) if text.startswith(f"To: {number}\n")]


async def test_a_verification_code_is_sent_as_printed(service: Service) -> None:
    own = "+14155550161"  # a number gets five codes an hour, and other tests ask for the example's
    said = await curl(service, SEND_CODE, **{NUMBER: own})
    assert (said.status, said.json) == (200, SENT)
    assert list(said.json) == list(SENT)
    assert len(texts(service, own)) == 1


async def test_without_a_paid_plan_both_steps_are_refused_as_printed(service: Service) -> None:
    free = replace(service, project=await service.new_project(plan="free"))
    for step in (SEND_CODE, CREATE_SMS):
        said = await curl(free, step)
        assert said.status == 403
        assert (said.json, list(said.json)) == (PAID_PLAN_REQUIRED, list(PAID_PLAN_REQUIRED))


async def test_a_missing_phone_number_is_refused_as_printed(service: Service) -> None:
    said = await curl(service, SEND_CODE.replace('"phone_number": "+1234567890"', ""))
    assert said.status == 422
    assert (said.json, list(said.json)) == (PHONE_NUMBER_REQUIRED, list(PHONE_NUMBER_REQUIRED))


async def test_an_sms_integration_is_created_as_printed(service: Service) -> None:
    said = await curl(service, CREATE_SMS)
    assert said.status == 201
    assert_as_printed(said, SMS_CREATED)


@pytest.mark.parametrize("code", [{"verification_code": "000000"}, {}])
async def test_note_in_non_production_environments_the_verification_code_check_is_skipped(
    service: Service, client: httpx.AsyncClient, code: dict[str, Any]
) -> None:
    assert service.environ["TOCSIN_ENV"] == "development"
    await integration(client, "SmsIntegration", phone_number="+14155550132", **code)


async def test_the_number_is_required_and_must_be_e164(client: httpx.AsyncClient) -> None:
    for settings in ({}, {"phone_number": None}, {"phone_number": "0664 123"}):
        body = {"integration": {"type": "Integrations::SmsIntegration", "settings": settings}}
        answer = await client.post("/api/v1/integrations", json=body)
        assert (answer.status_code, answer.json()["error"]) == (422, "invalid_request")
        assert answer.json()["details"][0]["field"] == "settings.phone_number"


async def test_an_sms_is_sent_when_an_incident_occurs(service: Service, client: httpx.AsyncClient) -> None:
    number = "+14155550187"
    await attach_to_all(client, await integration(client, "SmsIntegration", phone_number=number))
    await open_timeout(client, await monitor_of_the_example(client))
    [said] = poll(lambda: texts(service, number) or None, what=f"an SMS to {number}")
    assert "timeout" in said
    assert "example.com" in said
