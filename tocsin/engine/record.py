"""Putting the ends of tries on record: many in one commit, and each until it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import msgspec
import structlog
from msgspec.structs import replace

from tocsin.domain.deliveries import Finish, Outcome
from tocsin.engine.permits import PermittedAttempt
from tocsin.storage.delivery import leases
from tocsin.storage.delivery.leases import AttemptResult, Recorded
from tocsin.storage.postgres.database import UNAVAILABLE, GroupCommit, Tx

log = structlog.get_logger(__name__)

RECORD_PAUSE = 0.01
"""Seconds between two commits of ends in a burst: what they tell of has happened, so they can wait for company."""
DATABASE_PAUSE = 0.2
UNSTORABLE = "What was answered could not be stored"


class FinishedAttempt(msgspec.Struct, frozen=True, gc=False):
    """A try that is to be put on record, with its leave where it had one."""

    tried: AttemptResult
    outcome: Outcome
    permitted: PermittedAttempt | None

    @property
    def plain(self) -> bool:
        """Whether nothing follows but the delivery's end."""
        then = self.tried.next_step
        return self.permitted is None and isinstance(then, Finish) and then.disable is None


class Recorder:
    """One engine's record of what became of its tries."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._commit = GroupCommit[FinishedAttempt, Recorded](pool, _record, begin=False, pause=RECORD_PAUSE)

    async def record(self, ended: FinishedAttempt) -> Recorded:
        """A try that happened goes on record, however long the database is away; if need be without what was said.

        Raises what the database raises where it stores nothing of it at all.
        """
        complete = True
        while True:
            try:
                return await self._commit(ended)
            except (*UNAVAILABLE, asyncpg.TransactionRollbackError):
                await asyncio.sleep(DATABASE_PAUSE)
            except Exception:
                log.exception("The end of a try could not be put on record", delivery=str(ended.tried.id))
                if not complete:
                    raise
                complete, ended = False, replace(ended, tried=_without_text(ended.tried))


async def _record(connection: asyncpg.Connection, ended: Sequence[FinishedAttempt]) -> list[Recorded]:
    """In one transaction; plain ends are one statement, which is one by itself."""
    if all(each.plain for each in ended):
        return await leases.record(connection, [each.tried for each in ended])
    async with connection.transaction():
        return await _record_and_settle(connection, ended)


async def _record_and_settle(tx: Tx, ended: Sequence[FinishedAttempt]) -> list[Recorded]:
    recorded = await leases.record(tx, [each.tried for each in ended])
    for each, what in zip(ended, recorded, strict=True):
        if each.permitted is not None and what.accepted:
            await each.permitted.after_attempt(tx, each.outcome, each.tried.next_step)
    return recorded


def _without_text(tried: AttemptResult) -> AttemptResult:
    """That it was tried and what follows, where the words about it cannot be stored."""
    what = replace(tried.attempt_record, response=None, error=UNSTORABLE)
    then = tried.next_step
    if isinstance(then, Finish) and then.reason is not None:
        then = replace(then, reason=UNSTORABLE)
    return replace(tried, what=what, then=then)
