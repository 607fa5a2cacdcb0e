"""What an incident's reporter says besides: in templates of webhooks, and nowhere in what is sent without them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests import sent_alerts
from tests.api.test_sources import made
from tests.calls import integration
from tests.receivers import Receiver
from tocsin.domain.incidents import Notification
from tocsin.domain.templates.names import values
from tocsin.domain.templates.request import template
from tocsin.integrations.webhook import WebhookIntegration

SAID = {"labels": {"job": "db", "a-b": "c", "n": 5}, "annotations": {}, "list": [1, 2], "long": "x" * 5_000}


def rendered(body: Any, details: dict[str, Any] | None = SAID) -> Any:
    settings = {"webhook_url": "https://example.com/", "body": body}
    notification = Notification(
        "DLV1", "opened", "INC1", "Source", "Cluster", "https://example.com", "DiskFull", "full", datetime.now(UTC),
        details=details,
    )  # fmt: skip
    made = template(settings).render(values(notification, "https://example.com", {})).body
    assert made is not None
    return json.loads(made)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ details.labels.job }}", "db"),
        ('{{ details["labels"]["a-b"] }}', "c"),
        ("{{ details.labels.n }}", 5),
        ("number {{ details.labels.n }}", "number 5"),
        ("{{ details.labels.none.there }}", None),
        ("{{ details.labels.job.deeper }}", None),
        ("{{ details.nothing or 'none' }}", "none"),
        ("{{ details.list }}", "[1,2]"),
        ("{{ details.labels }}", '{"job":"db","a-b":"c","n":5}'),
        ("{{ details.long|truncate(5) }}", "xxxx…"),
        ("{% if details.labels.job == 'db' %}yes{% endif %}", "yes"),
    ],
)  # fmt: skip
def test_a_template_says_any_of_it(source: str, expected: Any) -> None:
    assert rendered({"said": source}) == {"said": expected}
    assert rendered({"said": source}, None) != {"said": expected} or expected in (None, "none")


def test_all_of_it_is_an_object_by_itself_and_json_in_a_text() -> None:
    assert rendered({"said": "{{ details }}"}) == {"said": SAID}
    assert json.loads(rendered({"said": "{{ details }} "})["said"]) == SAID


def test_only_templates_that_speak_of_it_want_it() -> None:
    kind = WebhookIntegration()
    assert not kind.wants_details({"webhook_url": "https://example.com/details"})
    assert not kind.wants_details({"webhook_url": "https://example.com/", "body": {"a": "{{ message }}"}})
    assert kind.wants_details({"webhook_url": "https://example.com/", "body": {"a": "{{ details.labels.job }}"}})
    assert kind.wants_details({"webhook_url": "https://example.com/{{ details.labels.job }}"})


async def test_it_reaches_the_webhook_whose_template_asks_for_it(client: httpx.AsyncClient, receiver: Receiver) -> None:
    source = await made(client, "grafana")
    body = {"team": "{{ details.labels.team }}", "value": "{{ details.values.B }}"}
    for path, settings in (("/shaped", {"body": body}), ("/plain", {})):
        hook = await integration(client, "WebhookIntegration", webhook_url=receiver.url(path), **settings)
        at = f"/api/v1/sources/{source['uuid']}/integrations"
        assert (await client.post(at, json={"integration_id": hook})).status_code == 201
    assert (await client.post(source["url"], json=sent_alerts.grafana())).status_code == 200
    [shaped] = await receiver.arrivals(path="/shaped")
    assert shaped.json == {"team": "blue", "value": 44.23943737541908}
    [plain] = await receiver.arrivals(path="/plain")
    assert len(plain.json) == 7
    assert plain.json["resource_url"] == "https://grafana.example.com/alerting/1afz29v7z/edit"
    assert (plain.json["resource_type"], plain.json["incident_type"]) == ("Source", "High_memory_usage")
