"""Recording the results of attempts: many in one commit, retried until each is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import msgspec
import structlog
from msgspec.structs import replace

from tocsin.domain import ids
from tocsin.domain.deliveries import Finish, Outcome
from tocsin.engine.permits import PermittedAttempt
from tocsin.storage.delivery import health, leases
from tocsin.storage.delivery.leases import AttemptResult, Recorded
from tocsin.storage.postgres.database import UNAVAILABLE, Tx
from tocsin.storage.postgres.group_commit import GroupCommit
from tocsin.storage.postgres.session import OutcomeUnknown

log = structlog.get_logger(__name__)

RECORD_PAUSE = 0.01
"""Seconds between two commits of results in a burst: the attempts are over, so the results can wait and be batched."""
DATABASE_PAUSE, REFUSED_PAUSE = 0.2, 2.0
"""Seconds until a result is recorded again: after a database that was away, and after one that refused it."""
OF_TEXTS = (asyncpg.DataError, asyncpg.ProgramLimitExceededError, UnicodeError)
"""Errors of texts that cannot be stored. Any other says nothing about the result, which is still what happened."""
UNSTORABLE = "The response could not be stored"


class FinishedAttempt(msgspec.Struct, frozen=True, gc=False):
    """An attempt that is to be recorded, with its permit if it had one."""

    result: AttemptResult
    outcome: Outcome
    permitted: PermittedAttempt | None

    @property
    def plain(self) -> bool:
        """Whether it only finishes the delivery, with nothing else to do."""
        return isinstance(self.result.next_step, Finish) and not self.changes_integration

    @property
    def changes_integration(self) -> bool:
        """Whether its integration may be disabled, or have something stored."""
        then = self.result.next_step
        return self.permitted is not None or (isinstance(then, Finish) and then.disable is not None)


class Recorder:
    """Records the results of one engine's attempts."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._commit = GroupCommit[FinishedAttempt, Recorded](pool, _record, begin=False, pause=RECORD_PAUSE)

    async def record(self, finished: FinishedAttempt) -> Recorded:
        """Record an attempt, however long the database is unavailable or refuses it; if need be without its texts."""
        complete, sure, said = True, True, False
        while True:
            try:
                recorded = await self._commit(finished)
                return recorded if sure or recorded.accepted else await self._look(finished.result)
            except UNAVAILABLE as error:
                sure = sure and not isinstance(error, OutcomeUnknown)
                await asyncio.sleep(DATABASE_PAUSE)
            except (asyncpg.PostgresError, UnicodeError) as error:
                if not said:
                    known = ids.public(ids.DELIVERY, finished.result.id)
                    log.exception("The result of an attempt could not be recorded", delivery=known)
                said = True
                if complete and isinstance(error, OF_TEXTS):
                    complete, finished = False, replace(finished, result=_without_text(finished.result))
                else:
                    await asyncio.sleep(REFUSED_PAUSE)

    async def _look(self, result: AttemptResult) -> Recorded:
        """What became of a result that may have been recorded before, when nothing said so: so it is not again."""
        async with self._pool.acquire() as tx:
            ended = await leases.ended(tx, result.id, result.attempt)
        return Recorded(ended is not None, ended)


async def _record(connection: asyncpg.Connection, finished: Sequence[FinishedAttempt]) -> list[Recorded]:
    """In one transaction; plain results need one statement, which is a transaction by itself."""
    if all(each.plain for each in finished):
        return await leases.record(connection, [each.result for each in finished])
    async with connection.transaction():
        return await _record_and_settle(connection, finished)


async def _record_and_settle(tx: Tx, finished: Sequence[FinishedAttempt]) -> list[Recorded]:
    await health.hold(tx, {each.result.integration_id for each in finished if each.changes_integration})
    recorded = await leases.record(tx, [each.result for each in finished])
    for each, what in zip(finished, recorded, strict=True):
        if each.permitted is not None and what.accepted:
            await each.permitted.after_attempt(tx, each.outcome, each.result.next_step)
    return recorded


def _without_text(result: AttemptResult) -> AttemptResult:
    """The attempt and its next step without its texts, for texts that cannot be stored."""
    what = replace(result.attempt_record, response=None, error=UNSTORABLE)
    then = result.next_step
    if isinstance(then, Finish) and then.reason is not None:
        then = replace(then, reason=UNSTORABLE)
    return replace(result, attempt_record=what, next_step=then)
