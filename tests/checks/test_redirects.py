"""Redirects: followed so far and no farther, and told where they cannot be."""

from __future__ import annotations

import pytest

from tests.sites import look, redirects, site


async def test_redirects_are_followed_five_times_at_most() -> None:
    asked: list[str] = []
    async with site(redirects(lambda path: f"/{int(path[1:]) - 1}" if path != "/0" else None, asked)) as port:
        assert (await look(f"http://127.0.0.1:{port}/5")).ok
        assert asked == ["/5", "/4", "/3", "/2", "/1", "/0"]
        result = await look(f"http://127.0.0.1:{port}/6")
    assert (result.problem, result.message) == ("http_status", "HTTP status 302, redirected more than 5 times")


async def test_a_redirect_loop_ends() -> None:
    asked: list[str] = []
    async with site(redirects(lambda path: path, asked)) as port:
        assert (await look(f"http://127.0.0.1:{port}/loop")).problem == "http_status"
    assert len(asked) == 6


async def test_a_redirect_that_is_expected_is_the_answer() -> None:
    asked: list[str] = []
    async with site(redirects(lambda path: "/elsewhere", asked)) as port:
        assert (await look(f"http://127.0.0.1:{port}/", expected_status=[301, 302])).ok
        assert (await look(f"http://127.0.0.1:{port}/", expected_status="3xx")).ok
    assert asked == ["/", "/"]


@pytest.mark.parametrize("location", ["ftp://example.com/", "javascript:alert(1)", "http://[bad/", "mailto:a@b.test"])
async def test_a_redirect_that_cannot_be_followed_is_said(location: str) -> None:
    async with site(redirects(lambda path: location, [])) as port:
        result = await look(f"http://127.0.0.1:{port}/")
    assert (result.problem, result.message) == (
        "connection_error", f"Redirected to {location}, which cannot be followed",
    )  # fmt: skip
