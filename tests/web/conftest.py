"""One browser for all tests of pages: to start one takes a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.browser import chromium


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _chromium() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


@pytest.fixture
def _function_scoped_runner(
    request: pytest.FixtureRequest, _function_scoped_runner: asyncio.Runner
) -> asyncio.Runner:
    """A test with a browser runs in the loop in which the browser lives, as does all that it is given."""
    if "browser" in request.fixturenames:
        return request.getfixturevalue("_session_scoped_runner")  # type: ignore[no-any-return]
    return _function_scoped_runner


@pytest_asyncio.fixture
async def browser(_chromium: Browser) -> AsyncIterator[Browser]:
    """A real browser that remembers nothing of other tests."""
    yield _chromium
    for context in _chromium.contexts:
        await context.close()
