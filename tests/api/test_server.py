"""What every call has in common: who may call, how errors look, methods, slashes, what a body may be."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

SHAPE = {"error", "message", "details"}


async def test_a_parameter_that_is_none_of_those_that_can_be_is_told_them(app_client: httpx.AsyncClient) -> None:
    told = (await app_client.get("/api/v1/incidents?status=open")).json()
    assert told["details"] == [{"field": "status", "message": "must be one of: ongoing, resolved; not 'open'"}]
    told = (await app_client.get("/api/v1/network_monitors?sort=size")).json()
    assert "status, created_at" in told["details"][0]["message"]


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/api/v1/nothing", "GET", 404, "not_found"),
        ("/nowhere", "POST", 404, "not_found"),
        ("/api/v1/incidents", "DELETE", 405, "method_not_allowed"),
        ("/api/v1/incidents", "TRACE", 405, "method_not_allowed"),
        ("/api/v1/incidents/%00", "GET", 422, "invalid_request"),
        ("/api/v1/network_monitors?search=%00", "GET", 422, "invalid_request"),
        ("/api/v1/incidents/INC123", "GET", 404, "incident_not_found"),
        ("/api/v1/incidents?page=0", "GET", 422, "invalid_request"),
        ("/api/v1/incidents?page=x", "GET", 422, "invalid_request"),
        ("/api/v1/incidents?per_page=" + "9" * 30, "GET", 422, "invalid_request"),
        ("/api/v1/incidents?status=open", "GET", 422, "invalid_request"),
    ],
)
async def test_every_error_has_the_one_shape(
    app_client: httpx.AsyncClient, path: str, method: str, status: int, code: str
) -> None:
    answer = await app_client.request(method, path)
    assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert answer.json().keys() == SHAPE
    assert answer.headers["content-type"] == "application/json"


async def test_a_wrong_parameter_is_named(app_client: httpx.AsyncClient) -> None:
    answer = (await app_client.get("/api/v1/incidents?page=0")).json()
    assert answer["details"] == [{"field": "page", "message": "must be an integer >= 1"}]


async def test_a_wrong_method_is_told_the_right_ones(app_client: httpx.AsyncClient) -> None:
    answer = await app_client.delete("/api/v1/incidents")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    options = await app_client.options("/api/v1/incidents")
    assert options.status_code == 204
    assert options.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_head_is_get_without_the_body(app_client: httpx.AsyncClient) -> None:
    got, headed = await app_client.get("/api/v1/incidents"), await app_client.head("/api/v1/incidents")
    assert (headed.status_code, headed.content) == (200, b"")
    assert headed.headers["content-length"] == str(len(got.content))


async def test_a_slash_at_the_end_makes_no_difference(app_client: httpx.AsyncClient) -> None:
    assert (await app_client.get("/api/v1/incidents/")).status_code == 200
    assert (await app_client.post("/api/v1/incidents/", content=b"{")).status_code == 400


@pytest.mark.parametrize("path", ["/api/v1/incidents", "/api/v1/integrations"])
async def test_a_caller_without_a_good_token_learns_nothing_but_that(
    app_client: httpx.AsyncClient, path: str
) -> None:
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": ""}, {"Authorization": "Bearer \xe4"}):
        headers = httpx.Headers(header, encoding="latin-1")
        async with httpx.AsyncClient(transport=app_client._transport, base_url="http://tocsin.test") as stranger:
            answer = await stranger.post(path, content=b"{", headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")


@pytest.mark.parametrize("path", ["/api/v1/incidents", "/api/v1/incidents/resolve", "/api/v1/server_metrics"])
async def test_the_bare_token_of_the_agent_is_as_good_as_a_bearer(
    app_client: httpx.AsyncClient, project: Any, path: str
) -> None:
    answer = await app_client.post(path, content=b"{", headers={"Authorization": project.api_token})
    assert answer.status_code == 400


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "nonsense", ""])
async def test_a_body_is_read_as_json_whatever_it_claims_to_be(
    app_client: httpx.AsyncClient, content_type: str
) -> None:
    for path in ("/api/v1/incidents", "/api/v1/network_monitors"):
        answer = await app_client.post(path, content=b'{"nothing": 1}', headers={"Content-Type": content_type})
        assert answer.status_code == 400
        assert "in it" in answer.json()["message"]


@pytest.mark.parametrize("path", ["/api/v1/incidents", "/api/v1/integrations", "/api/v1/server_metrics"])
async def test_a_body_that_is_too_large_is_413(app_client: httpx.AsyncClient, path: str) -> None:
    answer = await app_client.post(path, content=b'"' + b"a" * 10_000_000 + b'"')
    assert (answer.status_code, answer.json()["error"]) == (413, "payload_too_large")
