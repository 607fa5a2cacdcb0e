"""Probes for tests: made, and spoken for over the API as a probe would."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from tocsin.storage.monitoring import probes
from tocsin.storage.postgres.secrets import Vault


@dataclass
class Spoken:
    """A probe, as the service sees it: it asks for work and sends what it is told to have seen."""

    name: str
    id: UUID
    token: str
    client: httpx.AsyncClient
    seq: int = 0
    cursor: str | None = None
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def post(self, path: str, body: Any, token: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        return await self.client.post(f"/probe/v1/{path}", json=body, headers=headers)

    async def work(self, wait: int = 0) -> dict[str, Any]:
        answer = await self.post("work", {"cursor": self.cursor, "wait": wait, "version": "1.2.3"})
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        self.cursor = said["cursor"]
        self.checks |= {each["uuid"]: each for each in said["checks"]}
        return said

    def result(self, uuid: str, problem: str | None = None, **fields: Any) -> dict[str, Any]:
        """A result of a check now."""
        self.seq += 1
        known, now = self.checks.get(uuid, {}), datetime.now(UTC)
        interval = known.get("interval", 60)
        return {
            "seq": self.seq, "uuid": uuid, "version": known.get("version", now.isoformat()),
            "round": int(now.timestamp() // interval), "at": now.isoformat(), "problem": problem,
            "message": None if problem is None else f"It saw {problem}", "response_ms": 12.5, **fields,
        }  # fmt: skip

    async def send(self, *results: dict[str, Any]) -> dict[str, Any]:
        answer = await self.post("results", {"results": list(results)})
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said


async def made_probe(
    pool: asyncpg.Pool, vault: Vault, project_id: UUID, name: str, only: UUID | None = None
) -> tuple[UUID, str]:
    """The key and the token of a new probe."""
    async with pool.acquire() as tx, tx.transaction():
        made = await probes.create(tx, vault, project_id, name, only)
    assert made is not None
    return made


async def new_probe(
    pool: asyncpg.Pool, vault: Vault, client: httpx.AsyncClient, project_id: UUID, name: str,
    only: UUID | None = None,
) -> Spoken:  # fmt: skip
    """A probe of that name, with a token of its own."""
    return Spoken(name, *await made_probe(pool, vault, project_id, name, only), client)
