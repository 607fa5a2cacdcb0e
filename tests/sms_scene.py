"""A phone that is told of a server's incidents, by Twilio."""

from __future__ import annotations

import httpx
import pytest

from tests.twilio import Twilio

NUMBER = "+1234567890"
PUBLIC_URL = "https://tocsin.example.com"


@pytest.fixture
def environ(environ: dict[str, str], twilio: Twilio) -> dict[str, str]:
    return {**environ, **twilio.environ(), "TOCSIN_PUBLIC_URL": PUBLIC_URL}


async def new_phone(client: httpx.AsyncClient, server: str, number: str = NUMBER) -> str:
    settings = {"type": "Integrations::SmsIntegration", "settings": {"phone_number": number}}
    answer = await client.post("/api/v1/integrations", json={"integration": settings})
    assert answer.status_code == 201, answer.text
    body = {"integration_id": answer.json()["uuid"]}
    assert (await client.post(f"/api/v1/servers/{server}/integrations", json=body)).status_code == 201
    return str(answer.json()["uuid"])
