"""Previewing over the API what settings would send."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import httpx
import pytest

from tests.integration_calls import EMAIL, URL, WEBHOOK, change, create, made, refused
from tocsin.domain.templates.names import EVENTS

HEADERS = {"Authorization": "Bearer s3cret"}


async def preview(client: httpx.AsyncClient, kind: str = WEBHOOK, **settings: Any) -> httpx.Response:
    given = {"webhook_url": URL, **settings} if kind == WEBHOOK else settings
    return await client.post("/api/v1/integrations/preview", json={"integration": {"type": kind, "settings": given}})


async def test_each_event_is_shown_as_it_would_be_sent_and_nothing_is_stored(app_client: httpx.AsyncClient) -> None:
    answer = await preview(app_client, method="PUT", headers=HEADERS, body={"it": "{{ event }}", "n": "{{ 5 }}"})
    assert answer.status_code == 200
    shown = answer.json()["data"]
    assert [each["event"] for each in shown] == list(EVENTS)
    assert [json.loads(each["body"]) for each in shown] == [{"it": event, "n": 5} for event in EVENTS]
    assert {each["method"] for each in shown} == {"PUT"}
    assert {each["url"] for each in shown} == {URL}
    assert shown[0]["headers"] == {"Content-Type": "application/json", **HEADERS}
    assert (await app_client.get("/api/v1/integrations")).json() == []


async def test_without_templates_it_is_the_seven_fields_and_other_types_show_their_text(
    app_client: httpx.AsyncClient,
) -> None:
    assert len(json.loads((await preview(app_client)).json()["data"][0]["body"])) == 7
    mail = (await preview(app_client, EMAIL, email="alerts@example.com")).json()["data"][0]
    assert (mail["method"], mail["url"], mail["headers"]) == (None, None, {})


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"body": {"a": [{"b": "{{ nobody }}"}]}}, "settings.body.a[0].b"),
        ({"headers": {"Host": "x"}}, "settings.headers.Host"),
        ({"webhook_url": "nowhere"}, "settings.webhook_url"),
    ],
)
async def test_mistakes_are_refused_by_their_place_in_preview_creation_and_change(
    app_client: httpx.AsyncClient, given: dict[str, Any], field: str
) -> None:
    refused(await preview(app_client, **given), 422, "invalid_request", field)
    wrong = await app_client.post(
        "/api/v1/integrations", json={"integration": {"type": WEBHOOK, "settings": {"webhook_url": URL, **given}}}
    )
    refused(wrong, 422, "invalid_request", field)
    refused(await change(app_client, await made(app_client), settings=given), 422, "invalid_request", field)


async def test_a_header_outside_ascii_is_shown_as_its_receiver_reads_it(app_client: httpx.AsyncClient) -> None:
    shown = (await preview(app_client, headers={"X-Title": "Störung: {{ event }} 🔔"})).json()["data"]
    assert shown[0]["headers"]["X-Title"] == "Störung: opened 🔔"


async def test_a_preview_needs_a_token_and_a_known_type(app_client: httpx.AsyncClient) -> None:
    refused(await preview(app_client, "Integrations::Nothing"), 422, "invalid_request", "type")
    del app_client.headers["Authorization"]
    refused(await preview(app_client), 401, "unauthorized")


async def test_headers_are_told_to_who_sends_them_sealed_in_the_database_and_masked_ever_after(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    given = {"webhook_url": URL, "headers": HEADERS, "secrets": {"key": "s3cret-too"}}
    answer = await app_client.post("/api/v1/integrations", json={"integration": {"type": WEBHOOK, "settings": given}})
    assert answer.json()["settings"] == given
    uuid = answer.json()["uuid"]
    row = await pool.fetchrow("SELECT settings, sealed FROM integrations")
    assert row["settings"] == {"webhook_url": URL}
    assert b"s3cret" not in row["sealed"]
    masked = {"webhook_url": URL, "headers": {"Authorization": "********"}, "secrets": {"key": "********"}}
    assert (await app_client.get(f"/api/v1/integrations/{uuid}")).json()["settings"] == masked
    both = await change(app_client, uuid, settings={"headers": {"Authorization": "********", "X-New": "new"}})
    assert both.json()["settings"]["headers"] == {"Authorization": "********", "X-New": "new"}
    assert "s3cret" not in both.text
    audited = str(await pool.fetch("SELECT * FROM audit"))
    assert "headers" in audited
    assert "s3cret" not in audited


async def test_another_host_needs_the_headers_again(app_client: httpx.AsyncClient) -> None:
    created = await create(app_client, settings={"webhook_url": URL, "headers": HEADERS})
    moved = await change(app_client, created.json()["uuid"], settings={"webhook_url": "https://elsewhere.example.com/"})
    refused(moved, 422, "invalid_request", "settings.headers")
