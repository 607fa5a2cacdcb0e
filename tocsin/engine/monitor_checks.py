"""Watches the network monitors: makes each check when it is due, and hands in what it found."""

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
from tocsin.checks.base import CheckContext, run_check
from tocsin.domain.counters import Counters
from tocsin.storage.monitoring import monitors
from tocsin.storage.monitoring.monitors import CompletedCheck, DueCheck
from tocsin.storage.postgres.database import UNAVAILABLE, GroupCommit
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Guard

log = structlog.get_logger(__name__)

MAX_CONCURRENT = 200
"""Checks that are made at the same time, those aside that have been waiting for their site for over a second."""
SLOW = 1.0
MAX_RUNNING = 5_000
"""Checks under way, slow ones included. They cost a socket and little else."""
PAUSE = 0.25
"""Seconds between two looks at what is due, and so the most by which a check is late."""


async def run(
    pool: asyncpg.Pool, guard: Guard, public_url: str, stop: asyncio.Event, counters: Counters | None = None
) -> None:
    """Make the checks that are due until `stop` is set. Any number of engines may do so at once.

    What is under way then is given up: those monitors are due again soon. Raises what claiming raises when the
    database is away.
    """
    watcher = CheckRunner(
        pool, CheckContext(Dialer(guard), f"Tocsin/{__version__}"), public_url, counters or Counters()
    )
    try:
        while not stop.is_set():
            await watcher.claim()
            await watcher.wait(stop)
    finally:
        await watcher.give_up()


class CheckRunner:
    """The checks that one engine has under way."""

    def __init__(self, pool: asyncpg.Pool, context: CheckContext, public_url: str, counters: Counters) -> None:
        self._pool = pool
        self._context = context
        self._tallies = counters
        self._record = GroupCommit(pool, partial(monitors.record, public_url=public_url))
        self._under_way: dict[UUID, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._more = False
        self._most = min(MAX_RUNNING, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)

    @property
    def room(self) -> int:
        """How many checks may begin now."""
        since = monotonic() - SLOW
        quick = sum(began > since for began in self._under_way.values())
        return max(0, min(MAX_CONCURRENT - quick, self._most - len(self._under_way)))

    async def claim(self) -> None:
        """Begin what is due, as far as there is room. A monitor whose last check still lasts is left out this time."""
        self._changed.clear()
        room = self.room
        if not self._worthwhile(room):
            return
        async with self._pool.acquire() as tx, tx.transaction():
            due = await monitors.claim_due(tx, room)
        self._more = len(due) == room
        for each in due:
            if each.id not in self._under_way:
                self._under_way[each.id] = monotonic()
                task = asyncio.create_task(self._run_check(each))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def wait(self, stop: asyncio.Event) -> None:
        """Until there may be something to claim: at once where more is due and there is room, else after a moment."""
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
        # Claiming for each free place alone would cost more than the checks.
        return room >= MAX_CONCURRENT // 2

    async def _run_check(self, due: DueCheck) -> None:
        try:
            result = await run_check(due.target, self._context)
            await self._record(CompletedCheck(due, result))
            self._tallies.count("checks", due.target.check_type, "ok" if result.ok else "failed")
        except UNAVAILABLE as error:
            # Either this machine lacks the means to look, or the database is away: nothing is known about the site.
            log.warning("A check was left out", monitor=str(due.id), error=f"{type(error).__name__}: {error}")
        except Exception:
            log.exception("A check failed in a way that nobody expected", monitor=str(due.id))
        finally:
            del self._under_way[due.id]
            if self._more and self._worthwhile(self.room):
                self._changed.set()
