"""Runs the checks of network monitors when they are due, and stores their results."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from functools import partial
from time import monotonic
from uuid import UUID

import asyncpg
import structlog

from tocsin import __version__
from tocsin.checks.base import CheckContext
from tocsin.checks.second_tries import SecondTries
from tocsin.domain import places
from tocsin.domain.counters import Counters
from tocsin.domain.monitors import Result
from tocsin.engine.connectivity import Connectivity
from tocsin.storage.monitoring import due_checks, votes
from tocsin.storage.monitoring.due_checks import CompletedCheck, DueCheck
from tocsin.storage.monitoring.votes import Ballot
from tocsin.storage.postgres.database import UNAVAILABLE
from tocsin.storage.postgres.group_commit import GroupCommit
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Guard

log = structlog.get_logger(__name__)

MAX_CONCURRENT = 200
"""Maximum checks that are active at once, not counting those that have waited for their site for over a second."""
SLOW = 1.0
MAX_RUNNING = 5_000
"""Maximum running checks, slow ones included. They cost a socket and little else."""
USER_AGENT = f"Tocsin/{__version__}"
PAUSE = 0.25
"""Seconds between two polls for due checks, and so the maximum delay of a check."""


async def run(
    pool: asyncpg.Pool, vault: Vault, guard: Guard, public_url: str, stop: asyncio.Event,
    counters: Counters | None = None, connectivity: Connectivity | None = None,
) -> None:  # fmt: skip
    """Run the checks that are due until `stop` is set. Any number of engines may do so at once.

    Running checks are then abandoned: those monitors are due again soon. Raises what claiming raises when the
    database is unavailable.
    """
    context = CheckContext(Dialer(guard), USER_AGENT)
    connectivity = connectivity or Connectivity([], context)
    watcher = CheckRunner(pool, vault, context, public_url, counters or Counters(), connectivity)
    try:
        while not stop.is_set():
            await watcher.claim()
            await watcher.wait(stop)
    finally:
        await watcher.give_up()


class CheckRunner:
    """The running checks of one engine."""

    def __init__(
        self, pool: asyncpg.Pool, vault: Vault, context: CheckContext, public_url: str, counters: Counters,
        connectivity: Connectivity,
    ) -> None:  # fmt: skip
        self._pool = pool
        self._vault = vault
        self._context = context
        self._counters = counters
        self._connectivity = connectivity
        self._record = GroupCommit(pool, partial(due_checks.record, public_url=public_url))
        self._vote = GroupCommit(pool, partial(votes.record, public_url=public_url))
        self._under_way: dict[UUID, float] = {}
        self._second_tries = SecondTries()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._more = False
        self._most = min(MAX_RUNNING, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)

    @property
    def room(self) -> int:
        """How many checks may start now."""
        since = monotonic() - SLOW
        quick = sum(began > since for began in self._under_way.values())
        return max(0, min(MAX_CONCURRENT - quick, self._most - len(self._under_way)))

    async def claim(self) -> None:
        """Start what is due, as far as there is room, and while there is a way out.

        A monitor whose last check is still running is skipped.
        """
        self._changed.clear()
        room = self.room
        if self._connectivity.away:
            self._more = False
        if self._connectivity.away or not self._worthwhile(room):
            return
        async with self._pool.acquire() as tx, tx.transaction():
            due = await due_checks.claim_due(tx, self._vault, room)
        self._more = len(due) == room
        for each in due:
            if each.id not in self._under_way:
                self._under_way[each.id] = monotonic()
                task = asyncio.create_task(self._run_check(each))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def wait(self, stop: asyncio.Event) -> None:
        """Wait until there may be something to claim: no time if more is due and there is room, else a moment."""
        if self._more and self._worthwhile(self.room) and not stop.is_set():
            await asyncio.sleep(0)
            return
        waited_for = self._changed if self._more else stop
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PAUSE):
                await waited_for.wait()

    async def give_up(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @staticmethod
    def _worthwhile(room: int) -> bool:
        # Claiming for each free slot alone would cost more than the checks.
        return room >= MAX_CONCURRENT // 2

    async def _check(self, due: DueCheck) -> Result:
        """What the check found. One that failed is tried again at once over a new connection before it counts.

        Not where nothing follows from it, nor where many fail together or there is no way out: see `connectivity`.
        """
        return await self._second_tries.check(
            due.target, self._context, lambda: due.may_decide and not self._connectivity.away
        )

    async def _run_check(self, due: DueCheck) -> None:
        try:
            result = await self._check(due)
            if not await self._connectivity.counts(due.id, result):
                return
            if due.placed:
                round_ = places.round_at(due.at, due.interval)
                await self._vote(Ballot(due.id, places.HERE, due.version, round_, due.at, result, due.next_at))
            else:
                await self._record(CompletedCheck(due, result))
            self._counters.count("checks", due.target.check_type, "ok" if result.ok else "failed")
        except UNAVAILABLE as error:
            # Either this machine lacks resources or the database is unavailable: this says nothing about the site.
            log.warning(
                "Check skipped: this machine or the database is unavailable",
                monitor=str(due.id), error=f"{type(error).__name__}: {error}",
            )  # fmt: skip
        except Exception:
            log.exception("Unexpected error in a check", monitor=str(due.id))
        finally:
            del self._under_way[due.id]
            if self._more and self._worthwhile(self.room):
                self._changed.set()
