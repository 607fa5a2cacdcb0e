"""The description of the API: valid, complete, true."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any, get_args

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from schemathesis.checks import CHECKS
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.python._constants.orchestrator import make_constants_value_source

from tests import specification
from tests.service import Service
from tocsin.api import docs, server
from tocsin.domain.deliveries import Event

APPLICATION = server.application([*server.nouns()], openapi_config=docs.config())
DOCUMENT: dict[str, Any] = json.loads(docs.describe(APPLICATION))
OPERATIONS = [
    (method, path, operation) for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
]
NAMES = [f"{method.upper()} {path}" for method, path, _ in OPERATIONS]


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every place of an operation that has a body."""
    if "requestBody" in operation:
        yield "request", operation["requestBody"]["content"]["application/json"]
    for status, answer in operation["responses"].items():
        if "content" in answer:
            [content] = answer["content"].values()
            yield status, content


def test_the_description_is_valid_openapi_3_1() -> None:
    validate(DOCUMENT)
    assert DOCUMENT["openapi"].startswith("3.1")


def test_every_call_of_the_application_is_described() -> None:
    described = {(method.upper(), path) for method, path, _ in OPERATIONS}
    undescribed = {"/api/v1/openapi.json", "/api/docs", "/api/docs/{name:str}"}
    undescribed |= {"/sms/reports/{delivery:str}"}  # called by the provider of SMS, in its own form
    undescribed |= {"/sms/replies"}  # likewise
    undescribed |= {"/slack/interactions"}  # called by Slack, likewise
    undescribed |= {"/oncall/{file:str}"}  # read by calendars
    for route in server.application([*server.nouns()]).routes:
        for method in route.methods - {"OPTIONS"}:
            if route.path not in undescribed:
                assert (method, re.sub(r":\w+}", "}", route.path)) in described


def test_every_event_of_deliveries_is_described() -> None:
    for shape in ("DeliveryShown", "DeliveryWithAttempts"):
        event = DOCUMENT["components"]["schemas"][shape]["properties"]["event"]
        assert set(event["enum"]) == set(get_args(Event))
        assert all(f"`{each}`" in event["description"] for each in event["enum"])


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=NAMES)
def test_every_call_says_what_it_is_and_shows_examples(method: str, path: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert not operation["summary"].endswith(".")
    for where, content in contents(operation):
        assert content["examples"], where


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=NAMES)
def test_every_example_fits_its_shape(method: str, path: str, operation: dict[str, Any]) -> None:
    for where, content in contents(operation):
        shape = Draft202012Validator({**content["schema"], "components": DOCUMENT["components"]})
        for name, example in content["examples"].items():
            assert not [each.message for each in shape.iter_errors(example["value"])], (where, name)


def test_the_examples_of_the_specification_are_there_to_the_letter() -> None:
    values = [
        example["value"] for _, _, operation in OPERATIONS for _, content in contents(operation)
        for example in content["examples"].values()
    ]  # fmt: skip
    payload = DOCUMENT["webhooks"]["incident"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    values += [example["value"] for example in payload.values()]
    printed = [value for name, value in vars(specification).items() if name.isupper() and isinstance(value, str)]
    expected = [json.loads(text) for text in printed if text.strip().startswith(("{", "["))]
    assert len(expected) >= 3
    for each in expected:
        assert each in values


async def test_it_is_served_without_a_token(app_client: httpx.AsyncClient) -> None:
    answer = await app_client.get("/api/v1/openapi.json", headers={"Authorization": ""})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == DOCUMENT


async def test_the_page_to_try_it_needs_no_other_host(app_client: httpx.AsyncClient) -> None:
    page = await app_client.get("/api/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name in ("docs.css", "docs.js"):
        assert f"/api/docs/{name}" in page.text
        part = await app_client.get(f"/api/docs/{name}")
        assert part.status_code == 200
        assert "://" not in part.text
    assert "://" not in page.text
    assert "<script>" not in page.text
    assert (await app_client.get("/api/docs/docs.py")).status_code == 404


# ------------------------------------------------------------------------------------------------- generated requests


@dataclass(frozen=True, slots=True)
class Far:
    url: str
    token: str
    session: requests.Session
    """Connections that all share: to connect and to read the environment anew took a third of each request."""


@pytest.fixture(scope="module")
def far(_shared_service: Service) -> Iterator[Far]:
    """A real service and a project of this module's own."""
    token = str(asyncio.run(_shared_service.new_project()).api_token)
    with requests.Session() as session:
        session.trust_env = False
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        yield Far(_shared_service.url, token, session)


schema = schemathesis.openapi.from_dict(DOCUMENT)
TRUE = CHECKS.get_by_names(
    ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
     "unsupported_method", "ignored_auth"]
)  # fmt: skip


@settings(
    max_examples=5,  # besides an example for each bound that the description names, of which there are five thousand
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[*HealthCheck],
)
def answered_as_described(case: schemathesis.Case, far: Far) -> None:
    authorization = {"Authorization": f"Bearer {far.token}"}
    case.call_and_validate(base_url=far.url, session=far.session, headers=authorization, checks=TRUE)


# With schema.parametrize() every worker would make the requests of all calls when it collects, for ten seconds.
@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=NAMES)
def test_whatever_fits_or_does_not_fit_the_description_is_answered_as_described(
    method: str, path: str, operation: dict[str, Any], far: Far
) -> None:
    asked = build_operation_test(
        config=schema.config, operation=schema[path][method], test_func=answered_as_described, given_kwargs={},
        feedback=FeedbackSources(constants_value_source=make_constants_value_source(schema)),
    )  # fmt: skip
    asked(far=far)
