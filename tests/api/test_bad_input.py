"""Nonsense at every door: the one error shape, nothing changed, never a 500."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.calls import alarm, new_monitor, new_server, new_webhook, opened
from tests.hostile import NO_BODIES
from tests.probes import made_probe
from tests.service import new_project
from tocsin.domain import ids

SHAPE = {"error", "message", "details"}
PRINTED = {"success", "error", "message"}
"""What the specification prints for the one call that refuses otherwise."""
CODES = "/api/v1/integrations/sms/send_verification_code"
WRONG = [
    None, True, -1, 0, 1.5, 10**18, 10**19, 10**40, -(10**40), 1e308, "", " ", "x", "\0", "a\0b", "x" * 100_000,
    "\u202e", [], {}, [[]], [None], {"\0": 1}, {"a": {"b": []}}, "Integrations::", "javascript:alert(1)", "http://[",
    "//", "😀", "a@b@c", "a@example.com\r\nBcc: b@example.com", "9999-12-31T23:59:59-23:59", "0000-00-00T00:00:00Z",
]  # fmt: skip
EXTREME = ("\0", "x" * 100_000, 10**40, 1e308, [None], {"\0": 1})
"""What may do harm where it is not even of the right type."""
NO_SUCH_TYPE = re.compile(r"must be [^\"]*, not (a|an) (string|integer|number|list|object)\b")
"""How a value is refused for its type alone: another of the same type comes no further."""
NO_IDS = [
    "x", "INT123", "INT" + "Z" * 26, "%2e%2e", "%F0%9F%98%80", "%ff", "a" * 5000, "INT%0a", "'; DROP TABLE users; --",
]  # fmt: skip
QUERY = ["", "x", "0", "-1", "1.5", "1e9", "9" * 30, "%ff", "%ED%A0%80", "[]", "null", "a" * 5000, "%0a", "2025-01-01"]

RUNNING_ON = {"api_heartbeat", "outages", "tries", "throttles"}
"""Tables that change by themselves, or by counting what was tried."""


@dataclass(frozen=True, slots=True)
class Door:
    """One operation of the description. `path` still has its `{uuid}`."""

    method: str
    path: str
    parameters: tuple[str, ...]
    examples: tuple[Any, ...]
    takes_body: bool
    needs_nothing: bool

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class House:
    client: httpx.AsyncClient
    pool: asyncpg.Pool
    doors: tuple[Door, ...]
    own: dict[str, str]
    theirs: dict[str, str]
    probe: str

    async def contents(self) -> dict[str, str]:
        """A digest of every table."""
        async with self.pool.acquire() as tx:
            tables = [row[0] for row in await tx.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
            return {
                table: await tx.fetchval(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t")
                for table in tables
                if table not in RUNNING_ON
            }


def fill(door: Door, found: dict[str, str]) -> str:
    """The address with identifiers in the place of `{uuid}`: of the noun before it."""

    def one(match: re.Match[str]) -> str:
        noun = "integrations" if match[2] == "integration_id" else match[1]
        return f"{match[1]}/{found.get(noun, 'PRJ' + '0' * 26)}"

    return re.sub(r"(\w+)/\{(\w+)\}", one, door.path)


async def furnish(client: httpx.AsyncClient) -> dict[str, str]:
    """One of everything, and its uuid by noun."""
    server, monitor = await new_server(client), await new_monitor(client)
    webhook = await new_webhook(client, "http://127.0.0.1:9/", server)
    incident = (await opened(client, alarm(server))).json()["uuid"]
    delivery = (await client.get(f"/api/v1/incidents/{incident}/deliveries")).json()["data"][0]["uuid"]
    silence = await client.post("/api/v1/silences", json={"silence": {"name": "x", "ends_at": "2099-01-01T00:00:00Z"}})
    heartbeat = await client.post("/api/v1/heartbeats", json={"heartbeat": {"name": "x"}})
    return {
        "servers": server, "network_monitors": monitor, "integrations": webhook, "incidents": incident,
        "deliveries": delivery, "silences": silence.json()["uuid"],
        "heartbeats": heartbeat.json()["uuid"],
    }  # fmt: skip


def _needs_nothing(described: Any, operation: Any) -> bool:
    """Whether an empty object is a body that says: as it is by default."""
    schema = _content(operation).get("schema", {})
    named = [schema, *schema.get("oneOf", ()), *schema.get("anyOf", ())]
    names = [each["$ref"].rpartition("/")[2] for each in named if "$ref" in each]
    return any(not described["components"]["schemas"][name].get("required") for name in names)


@pytest_asyncio.fixture
async def house(app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any) -> AsyncIterator[House]:
    described = (await app_client.get("/api/v1/openapi.json")).json()
    doors = tuple(
        Door(
            method.upper(),
            path,
            tuple(each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"),
            tuple(each["value"] for each in _content(operation).get("examples", {}).values()),
            "requestBody" in operation,
            _needs_nothing(described, operation),
        )
        for path, item in described["paths"].items()
        for method, operation in item.items()
        # Refused in the words of others' protocols: api/test_pings.py, api/test_source_intake.py.
        if operation["tags"] != ["pings"] and not path.startswith(("/in", "/v2/"))
    )
    assert len(doors) > 40
    stranger = await new_project(pool, vault)
    own_token = app_client.headers["Authorization"]
    app_client.headers["Authorization"] = f"Bearer {stranger.api_token}"
    theirs = await furnish(app_client)
    app_client.headers["Authorization"] = own_token
    _, probe = await made_probe(pool, vault, stranger.id, "wien")
    yield House(app_client, pool, doors, await furnish(app_client), theirs, probe)


def _content(operation: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return found


def complaint(answer: httpx.Response, *, refused: bool = False) -> str | None:
    """What is wrong with an answer to nonsense, if anything is."""
    asked = answer.request
    said = f"{asked.method} {str(asked.url)[:150]} {asked.content[:120]!r}: {answer.status_code}"
    if answer.status_code >= 500:
        return said
    if answer.status_code < 400:
        return f"{said} was accepted" if refused else None
    if asked.url.path == CODES and answer.json().keys() == PRINTED:
        return None
    if answer.json().keys() != SHAPE or not isinstance(answer.json()["details"], list):
        return f"{said} {answer.text[:200]}"
    return None


def spoiled(value: Any, seen: set[tuple[Any, ...]], unfit: set[type]) -> Iterator[tuple[Any, Any]]:
    """Every copy of an example with one of its values replaced by something wrong, but for places that were `seen`, and
    what that is. Members of a list that have the same type are one place: the first.

    Of a type that is in `unfit`, where the caller notes what the place refuses as such, only the extremes follow.
    """

    def places(inner: Any, at: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], type]]:
        yield at, type(inner)
        for key in inner if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ():
            yield from places(inner[key], (*at, key))

    for place, kind in places(value, ()):
        alike = (*("any" if isinstance(key, int) else f".{key}" for key in place), kind)
        if alike in seen:
            continue
        seen.add(alike)
        unfit.clear()
        for wrong in WRONG:
            if type(wrong) in unfit and wrong not in EXTREME:
                continue
            if not place:
                yield wrong, wrong
                continue
            copied = copy.deepcopy(value)
            inner = copied
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = wrong
            yield wrong, copied


async def test_a_body_that_is_none_is_refused_everywhere_and_changes_nothing(house: House) -> None:
    before = await house.contents()
    complaints = [
        complaint(await house.client.request(door.method, fill(door, house.own), content=content), refused=True)
        for door in house.doors
        if door.takes_body
        for content in NO_BODIES
        if not (content in (b"", b"{}") and door.needs_nothing)
    ]
    assert not [*filter(None, complaints)]
    assert await house.contents() == before


async def test_ten_megabytes_are_413_everywhere_and_change_nothing(house: House) -> None:
    before = await house.contents()
    large = b'{"a": "' + b"a" * 10_000_000 + b'"}'
    for door in house.doors:
        if door.takes_body:
            token = {"Authorization": f"Bearer {house.probe}"} if door.path.startswith("/probe/") else None
            answer = await house.client.request(door.method, fill(door, house.own), content=large, headers=token)
            assert (answer.status_code, answer.json()["error"]) == (413, "payload_too_large"), door
    assert await house.contents() == before


@pytest.mark.timeout(400)
async def test_no_value_in_the_place_of_another_is_a_500(house: House) -> None:
    complaints = []
    for door in house.doors:
        seen: set[tuple[Any, ...]] = set()
        unfit: set[type] = set()
        for example in door.examples:
            for wrong, body in spoiled(example, seen, unfit):
                content = json.dumps(body).encode()
                answer = await house.client.request(door.method, fill(door, house.own), content=content)
                complaints.append(complaint(answer))
                if answer.status_code == 422 and NO_SUCH_TYPE.search(answer.text):
                    unfit.add(type(wrong))
    assert not [*filter(None, complaints)]


async def test_unknown_fields_are_ignored_everywhere(house: House) -> None:
    for door in house.doors:
        for example in door.examples:
            body = {**example, "unknown": {"deep": [1]}}
            answer = await house.client.request(door.method, fill(door, house.own), json=body)
            assert "unknown" not in answer.text, door


async def test_an_identifier_that_is_none_is_404_everywhere_and_changes_nothing(house: House) -> None:
    before = await house.contents()
    for door in house.doors:
        if "{" not in door.path or "{name}" in door.path:  # a service has a name, not an identifier
            continue
        for bad in NO_IDS:
            body = json.dumps(door.examples[0]).encode() if door.examples else None
            answer = await house.client.request(door.method, re.sub(r"\{\w+\}", bad, door.path), content=body)
            assert not complaint(answer, refused=True)
            expected = 401 if "/projects/" in door.path else 404  # projects are for users' tokens
            assert answer.status_code == expected, (str(door), bad, answer.text)
    assert await house.contents() == before


async def test_what_belongs_to_another_project_is_404_everywhere_and_changes_nothing(house: House) -> None:
    before = await house.contents()
    for door in house.doors:
        if "{" not in door.path or "/projects/" in door.path:
            continue
        body = json.dumps(door.examples[0]).encode() if door.examples else None
        answer = await house.client.request(door.method, fill(door, house.theirs), content=body)
        assert answer.status_code == 404, (str(door), answer.text)
        assert answer.json()["error"].endswith("_not_found")
    assert await house.contents() == before


async def test_what_is_attached_or_detached_must_be_ones_own(house: House) -> None:
    before = await house.contents()
    for noun in ("servers", "network_monitors", "heartbeats"):
        path = f"/api/v1/{noun}/{house.own[noun]}/integrations"
        for wrong in (house.theirs["integrations"], ids.public(ids.INTEGRATION, ids.new()), house.own["servers"], "x"):
            answer = await house.client.post(path, json={"integration_id": wrong})
            assert (answer.status_code, answer.json()["error"]) == (404, "integration_not_found")
            answer = await house.client.delete(f"{path}/{wrong}")
            assert (answer.status_code, answer.json()["error"]) == (404, "integration_not_found")
    assert await house.contents() == before


async def test_no_parameter_is_a_500_or_changes_anything(house: House) -> None:
    before = await house.contents()
    complaints = []
    for door in house.doors:
        for name in door.parameters:
            for value in QUERY:
                address = f"{fill(door, house.own)}?{name}={value}&{name}={value}&unknown=1"
                complaints.append(complaint(await house.client.request(door.method, address)))
    assert not [*filter(None, complaints)]
    assert await house.contents() == before


async def test_without_a_token_every_door_but_the_open_ones_is_shut(house: House) -> None:
    before = await house.contents()
    open_doors = {"/health/live", "/health/ready", "/metrics", "/api/v1/users", "/api/v1/users/sign_in"}
    for door in house.doors:
        for header in ({}, {"Authorization": "Bearer " + "x" * 5000}, {"Authorization": "Basic eDp5"}):
            request = house.client.build_request(door.method, fill(door, house.own), headers=header, content=b"{}")
            if not header:
                del request.headers["Authorization"]
            answer = await house.client.send(request)
            if door.path not in open_doors:
                assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized"), (str(door), answer.text)
    assert await house.contents() == before


async def test_an_empty_body_is_accepted_where_none_is_specified(house: House) -> None:
    for door in house.doors:
        if door.method in ("POST", "DELETE") and not door.takes_body and "sign_out" not in door.path:
            for content_type in ("application/json", "text/plain", ""):
                headers = {"Content-Type": content_type}
                answer = await house.client.request(door.method, fill(door, house.own), headers=headers, content=b"")
                assert answer.status_code not in (400, 415), (str(door), answer.text)
