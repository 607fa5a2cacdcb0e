"""Tries that need leave: asked for before, committed to in the middle, settled with the record of their end."""

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
    """The lease is over, or another's."""


@dataclass(slots=True)
class PermittedAttempt:
    """One such try. `past_no_return` is whether it is behind the point of no return, as far as this process knows."""

    pool: asyncpg.Pool
    kind: IntegrationType
    job: Job
    settings: Mapping[str, Any]
    past_no_return: bool = False

    async def send(self, notification: Notification, transports: Transports) -> Outcome:
        """Ask, then send what was granted."""
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
            return Interrupted("Interrupted: the try took too long to begin")
        except UNAVAILABLE as error:  # it may be committed, but nothing was sent: to be tried again
            return _database_unavailable(error)
        self.past_no_return = True
        return None

    def final_outcome(self, outcome: Outcome) -> Outcome:
        """What a try's end means: behind the point of no return nothing is tried again."""
        match outcome:
            case Interrupted() if self.past_no_return:
                return Failed(leases.UNKNOWN_END, retry="never")
            case Failed() if self.past_no_return:
                return replace(outcome, retry="never", retry_after=None)
            case Delivered() | Failed() | Suppressed() | Interrupted():
                return outcome

    async def after_attempt(self, tx: Tx, outcome: Outcome, then: Retry | Finish) -> None:
        """To be called in the transaction that records the end."""
        await self.kind.after_attempt(tx, self.job, self.settings, outcome, then)


def _database_unavailable(error: BaseException) -> Interrupted:
    return Interrupted(f"Interrupted: the database was away ({type(error).__name__})")
