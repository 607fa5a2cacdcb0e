"""Attempts that need a permit: checked before, committed at the point of no return, settled with their result.

That point outlives the primary: its commit waits for a synchronous standby, whatever the server's default. Where there
should be one and none is, what must not happen twice is not sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from tocsin.domain.deliveries import ATTEMPT_TIMEOUT, Delivered, Failed, Finish, Interrupted, Outcome, Retry, Suppressed
from tocsin.domain.incidents import Notification
from tocsin.integrations.base import UNSAFE, IntegrationType, Permit, Transports
from tocsin.storage.delivery import failovers, leases
from tocsin.storage.delivery.queue import Job
from tocsin.storage.postgres import replication
from tocsin.storage.postgres.database import UNAVAILABLE, Pool, Tx

PASSED_WITHIN, STOPPED_WITHIN = 2.0, 1.0
"""Seconds for the point of no return to be committed, and to be confirmed by a standby where there should be one; and
for ending the wait for that.
"""
SETTLED_WITHIN = 1.0
"""Seconds until the next attempt where another server took over, and what it may not know was not yet settled."""


class _LeaseLost(Exception):
    """The lease has expired, or belongs to another engine."""


@dataclass(slots=True)
class PermittedAttempt:
    """One attempt with a permit. `past_no_return`: as far as this process knows, it has passed that point."""

    pool: Pool
    kind: IntegrationType
    job: Job
    settings: Mapping[str, Any]
    past_no_return: bool = False
    _waits: bool = False
    """Whether the commit of that point waits for a standby."""

    async def send(self, notification: Notification, transports: Transports) -> Outcome:
        """Ask for a permit, then send."""
        try:
            async with self.pool.acquire() as tx, tx.transaction():
                granted = await self.kind.before_send(tx, self.job, self.settings, transports)
                if isinstance(granted, Suppressed | Failed):
                    return granted
                if (refused := await self._unsafe(tx)) is not None:
                    return refused
        except UNAVAILABLE as error:
            return database_unavailable(error)

        async def pass_point_of_no_return() -> Outcome | None:
            return await self._pass_point_of_no_return(granted)

        return await self.kind.send(self.settings, notification, transports, Permit(granted, pass_point_of_no_return))

    async def _pass_point_of_no_return(self, known: Mapping[str, Any]) -> Outcome | None:
        backend: int | None = None
        try:
            async with asyncio.timeout(PASSED_WITHIN), self.pool.acquire() as tx:
                async with tx.transaction():
                    if (unsafe := await self._unsafe(tx)) is not None:
                        return unsafe
                    refused = await self.kind.before_point_of_no_return(tx, self.job, self.settings, known)
                    if refused is not None:
                        return refused
                    backend = await replication.wait_for_standby(tx)
                    if not await leases.pass_point_of_no_return(tx, self.job.id, self.job.attempt, ATTEMPT_TIMEOUT):
                        raise _LeaseLost
                if self._waits and not await replication.confirmed(tx):
                    return _unconfirmed()
        except TimeoutError as error:
            if backend is not None:  # the commit may wait, though nothing said beforehand that it would
                await self._stop_waiting(backend)
            return _unconfirmed() if self._waits and backend is not None else database_unavailable(error)
        except _LeaseLost:  # what was prepared is undone with the transaction
            return Interrupted("Interrupted: the attempt took too long to start")
        except UNAVAILABLE as error:  # it may be committed, but nothing was sent: retry
            return database_unavailable(error)
        self.past_no_return = True
        return None

    async def _stop_waiting(self, backend: int) -> None:
        """By a session of its own: the pool gives none while commits wait."""
        with contextlib.suppress(*UNAVAILABLE):
            async with asyncio.timeout(STOPPED_WITHIN):
                session = await self.pool.primary.connect()
                try:
                    await replication.stop_waiting(session, backend)
                finally:
                    session.terminate()

    async def _unsafe(self, tx: Tx) -> Failed | Interrupted | None:
        """Why what must not happen twice could, if the database's primary were lost."""
        if self.kind.repeatable or self.job.event == "test":
            return None
        found = await failovers.situation(tx)
        if found.changed:
            return Interrupted("Interrupted: another database server took over just now", SETTLED_WITHIN)
        self._waits = found.wanted
        if (objection := found.objection) is None:
            return None
        return Failed(objection.reason, "twice" if objection.passing else "never", receipt={UNSAFE: True})

    def final_outcome(self, outcome: Outcome) -> Outcome:
        """The outcome to record: past the point of no return nothing is retried."""
        match outcome:
            case Interrupted() if self.past_no_return:
                return Failed(leases.UNKNOWN_END, retry="never")
            case Failed() if self.past_no_return:
                return replace(outcome, retry="never", retry_after=None)
            case Delivered() | Failed() | Suppressed() | Interrupted():
                return outcome

    async def after_attempt(self, tx: Tx, outcome: Outcome, then: Retry | Finish) -> None:
        """Call this in the transaction that records the result."""
        await self.kind.after_attempt(tx, self.job, self.settings, outcome, then)


def _unconfirmed() -> Failed:
    """It is committed, perhaps, but nothing was sent."""
    return Failed(failovers.UNCONFIRMED, "twice", receipt={UNSAFE: True})


def database_unavailable(error: BaseException) -> Interrupted:
    """It is the service's own trouble: the next attempt is at once."""
    return Interrupted(f"Interrupted: the database was unavailable ({type(error).__name__})")
