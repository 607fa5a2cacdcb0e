"""Pages that keep themselves true: how many of them one person may have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from tests.service import new_project
from tests.waiting import PATIENCE
from tocsin.domain import ids
from tocsin.storage.accounts import accounts, sessions
from tocsin.storage.postgres import changes
from tocsin.storage.postgres.secrets import Vault
from tocsin.web import live


def opened(pool: asyncpg.Pool, project: Any, user_id: Any) -> AsyncIterator[str]:
    viewer: Any = SimpleNamespace(user_id=user_id, session_id=ids.new(), project_id=project.id)
    service: Any = SimpleNamespace(pool=pool)
    return live._events(viewer, service, frozenset(changes.TOPICS))


async def test_a_sixth_page_of_one_person_is_live_and_the_oldest_waits_its_turn(
    pool: asyncpg.Pool, project: Any
) -> None:
    ann, bob = ids.new(), ids.new()
    pages = [opened(pool, project, ann) for _ in range(live.MAX_EACH)]
    other = opened(pool, project, bob)
    try:
        for page in (*pages, other):
            assert await anext(page) == "retry: 2000\n\n"
        sixth = opened(pool, project, ann)
        pages.append(sixth)
        assert await anext(sixth) == "retry: 2000\n\n"
        assert [each async for each in pages[0]] == ["retry: 60000\n\n"]
        assert len(live._streams) == live.MAX_EACH + 1
        assert [each.user_id for each in live._streams.values()].count(ann) == live.MAX_EACH
    finally:
        for page in (*pages, other):
            await page.aclose()  # type: ignore[attr-defined]
    assert not live._streams


ENDS = {
    "signed out": "DELETE FROM user_tokens",
    "session over": "UPDATE user_tokens SET expires_at = now()",
    "removed from the project": "DELETE FROM members WHERE project_id = $1",
    "gone to another project": "UPDATE users SET current_project_id = (SELECT max(id::text) FROM projects)::uuid",
}


@pytest.mark.parametrize("how", ENDS)
async def test_a_live_page_ends_with_what_lets_its_reader_look(
    pool: asyncpg.Pool, vault: Vault, project: Any, how: str
) -> None:
    other = await new_project(pool, vault)
    async with pool.acquire() as tx, tx.transaction():
        user = await accounts.ensure_user(tx, "ann@example.com")
        for each in (project, other):
            await tx.execute(accounts.INSERT_MEMBER, each.id, user.id, "reader")
        await accounts.switch(tx, user.id, project.id)
        token = await sessions.begin(tx, vault, user)
        assert token
        signed_in = await sessions.session_of_token(tx, vault, token)
    assert signed_in
    viewer: Any = SimpleNamespace(user_id=user.id, session_id=signed_in.session_id, project_id=project.id)
    service: Any = SimpleNamespace(pool=pool)
    page = live._events(viewer, service, frozenset(changes.TOPICS))
    columns = "id, project_id, motherboard_id, agent_version, alerts"
    make = f"INSERT INTO servers ({columns}) VALUES (new_id(), $1, $2, '', '{{}}')"
    assert await anext(page) == "retry: 2000\n\n"
    looking = asyncio.ensure_future(anext(page))
    async with asyncio.timeout(PATIENCE):
        number = 0
        while not looking.done():
            number += 1
            await pool.execute(make, project.id, f"{number}")
            await asyncio.wait({looking}, timeout=live.EVERY)
        assert looking.result().startswith("event: changed")
        await pool.execute(ENDS[how], *([project.id] if "$1" in ENDS[how] else []))
        await pool.execute(make, project.id, "after")
        assert [each async for each in page] == []
    assert not live._streams
