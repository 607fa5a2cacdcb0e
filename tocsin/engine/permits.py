"""Attempts that need a permit: checked before, committed at the point of no return, settled with their result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
from msgspec.structs import replace

from tocsin.domain.deliveries import ATTEMPT_TIMEOUT, Delivered, Failed, Finish, Interrupted, Outcome, Retry, Suppressed
from tocsin.domain.incidents import Notification
from tocsin.integrations.base import IntegrationType, Permit, Transports
from tocsin.storage.delivery import leases
from tocsin.storage.delivery.queue import Job
from tocsin.storage.postgres.database import UNAVAILABLE, Tx


class _LeaseLost(Exception):
    """The lease has expired, or belongs to another engine."""


@dataclass(slots=True)
class PermittedAttempt:
    """One attempt with a permit. `past_no_return`: as far as this process knows, it has passed that point."""

    pool: asyncpg.Pool
    kind: IntegrationType
    job: Job
    settings: Mapping[str, Any]
    past_no_return: bool = False

    async def send(self, notification: Notification, transports: Transports) -> Outcome:
        """Ask for a permit, then send."""
        try:
            async with self.pool.acquire() as tx, tx.transaction():
                granted = await self.kind.before_send(tx, self.job, self.settings, transports)
        except UNAVAILABLE as error:
            return _database_unavailable(error)
        if isinstance(granted, Suppressed | Failed):
            return granted

        async def pass_point_of_no_return() -> Outcome | None:
            return await self._pass_point_of_no_return(granted)

        return await self.kind.send(self.settings, notification, transports, Permit(granted, pass_point_of_no_return))

    async def _pass_point_of_no_return(self, known: Mapping[str, Any]) -> Outcome | None:
        try:
            async with self.pool.acquire() as tx, tx.transaction():
                refused = await self.kind.before_point_of_no_return(tx, self.job, self.settings, known)
                if refused is not None:
                    return refused
                if not await leases.pass_point_of_no_return(tx, self.job.id, self.job.attempt, ATTEMPT_TIMEOUT):
                    raise _LeaseLost
        except _LeaseLost:  # what was prepared is undone with the transaction
            return Interrupted("Interrupted: the attempt took too long to start")
        except UNAVAILABLE as error:  # it may be committed, but nothing was sent: retry
            return _database_unavailable(error)
        self.past_no_return = True
        return None

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


def _database_unavailable(error: BaseException) -> Interrupted:
    return Interrupted(f"Interrupted: the database was unavailable ({type(error).__name__})")
