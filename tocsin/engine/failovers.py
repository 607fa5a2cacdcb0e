"""Notices that another database server has taken over, and what it may not know: before anything else goes by it."""

from __future__ import annotations

import asyncpg
import structlog

from tocsin.integrations.base import types
from tocsin.storage.channels import restarts
from tocsin.storage.delivery import failovers

log = structlog.get_logger(__name__)


async def notice(pool: asyncpg.Pool) -> None:
    """Where another server took over without synchronous replication: end what must not happen twice and had not
    finished, as it may have happened, and tell the people of each project.
    """
    async with pool.acquire() as tx, tx.transaction():
        lost = await failovers.notice(tx, several_hosts=len(pool.primary.hosts) > 1)
        if lost is None:
            return
        await restarts.use_up(tx)
        for each in lost:
            await types()[each.type].on_lost(tx, each)
    log.warning("Another database server took over without synchronous replication", not_repeated=len(lost))
