"""Pages that keep themselves true: how many of them one person may have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import asyncpg

from tocsin.domain import ids
from tocsin.storage import changes
from tocsin.web import live


def opened(pool: asyncpg.Pool, project: Any, user_id: Any) -> AsyncIterator[str]:
    viewer: Any = SimpleNamespace(user_id=user_id, session_id=ids.new(), project_id=project.id)
    service: Any = SimpleNamespace(pool=pool)
    return live._events(viewer, service, frozenset(changes.TOPICS))


async def test_a_sixth_page_of_one_person_is_live_and_the_oldest_waits_its_turn(
    pool: asyncpg.Pool, project: Any
) -> None:
    ann, bob = ids.new(), ids.new()
    pages = [opened(pool, project, ann) for _ in range(live.MOST_EACH)]
    other = opened(pool, project, bob)
    try:
        for page in (*pages, other):
            assert await anext(page) == "retry: 2000\n\n"
        sixth = opened(pool, project, ann)
        pages.append(sixth)
        assert await anext(sixth) == "retry: 2000\n\n"
        assert [each async for each in pages[0]] == ["retry: 60000\n\n"]
        assert len(live._streams) == live.MOST_EACH + 1
        assert [each.user_id for each in live._streams.values()].count(ann) == live.MOST_EACH
    finally:
        for page in (*pages, other):
            await page.aclose()  # type: ignore[attr-defined]
    assert not live._streams
