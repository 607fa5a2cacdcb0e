"""Whether it is us: when several monitors fail at once, the operator's own targets are asked before any is judged.

If none of them answers either, this engine judges nobody until one does. It says so in one incident of the operator's
project, which is told when there is a way out again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import OrderedDict, deque
from collections.abc import Sequence
from time import monotonic
from uuid import UUID

import asyncpg
import structlog

from tocsin.checks.base import CheckContext, of, run_check
from tocsin.domain.dependencies import REACHABILITY
from tocsin.domain.monitors import Result, Target
from tocsin.storage.monitoring import connectivity as stored
from tocsin.storage.postgres.database import UNAVAILABLE, transaction
from tocsin.storage.postgres.secrets import Vault

log = structlog.get_logger(__name__)

SEVERAL = 2
"""Monitors that began to fail within `WINDOW` after which the targets are asked."""
WINDOW = 60.0
FRESH = 1.0
"""Seconds for which an answer holds for other failures."""
PAUSE = 5.0
"""Seconds between two questions while nobody answers."""
TIMEOUT = 5.0
MAX_REMEMBERED = 20_000
"""Failing monitors that are remembered, so that one that stays down does not raise the question again and again."""


def targets(urls: Sequence[str]) -> list[Target]:
    """What to ask. Any answer will do: a page that refuses us shows that there is a way to it. Raises `Refused`."""
    found = []
    for url in urls:
        kind = of(None, url)
        found.append(kind.validate(Target(url, kind.check_type, TIMEOUT)))
    return found


def answers(result: Result) -> bool:
    return result.problem not in REACHABILITY


class Connectivity:
    """What one engine knows about its own way out. Without targets, it never doubts itself."""

    def __init__(self, asked: Sequence[Target], context: CheckContext) -> None:
        self._targets = asked
        self._context = context
        self._failing: OrderedDict[UUID, None] = OrderedDict()
        self._began: deque[float] = deque(maxlen=SEVERAL)
        self._question: asyncio.Task[bool] | None = None
        self._answered_at = float("-inf")
        self._back_at: float | None = None
        self.away = False
        self.doubted = asyncio.Event()

    @property
    def targets(self) -> Sequence[Target]:
        return self._targets

    @property
    def back_for(self) -> float | None:
        """Seconds since the way out is there again; None where it was never missed."""
        return None if self._back_at is None else monotonic() - self._back_at

    async def counts(self, monitor_id: UUID, result: Result) -> bool:
        """Whether this result says something about its monitor. Asks the targets first if it looks as if it were us."""
        if self.away:
            return False
        if not self._targets:
            return True
        if answers(result):
            self._failing.pop(monitor_id, None)
            return True
        if monitor_id not in self._failing:
            self._failing[monitor_id] = None
            self._began.append(monotonic())
            if len(self._failing) > MAX_REMEMBERED:
                self._failing.popitem(last=False)
        several = len(self._began) == SEVERAL and self._began[0] > monotonic() - WINDOW
        return not several or await self.is_connected()

    async def is_connected(self) -> bool:
        """Whether any target answers. Failures that come meanwhile share the question."""
        if not self.away and self._answered_at > monotonic() - FRESH:
            return True
        if self._question is None or self._question.done():
            self._question = asyncio.create_task(self._ask())
        return await asyncio.shield(self._question)

    async def _ask(self) -> bool:
        checks = [asyncio.create_task(run_check(target, self._context)) for target in self._targets]
        try:
            for done in asyncio.as_completed(checks):
                if answers(await done):
                    self._answered_at = monotonic()
                    if self.away:
                        self.away, self._back_at = False, monotonic()
                        self._failing.clear()
                    return True
        finally:
            for check in checks:
                check.cancel()
            await asyncio.gather(*checks, return_exceptions=True)
        self.away = True
        self.doubted.set()
        return False


async def run(
    pool: asyncpg.Pool, vault: Vault, connectivity: Connectivity, public_url: str, stop: asyncio.Event,
    *, pause: float = PAUSE,
) -> None:  # fmt: skip
    """While there is no way out, ask until there is; keep the incident about it. Until `stop` is set."""
    told = False
    while not stop.is_set():
        if connectivity.away:
            with contextlib.suppress(OSError):
                await connectivity.is_connected()
        if connectivity.doubted.is_set():
            message = f"No connectivity target answers the engine on {socket.gethostname()}: no monitor is judged."
            try:
                async with transaction(pool) as tx:
                    if not told:
                        log.warning("No connectivity target answers: monitors are not judged until one does")
                        target = connectivity.targets[0]
                        await stored.MONITOR.open_incident(tx, vault, target, message, public_url=public_url)
                told = True
                if not connectivity.away:
                    async with transaction(pool) as tx:
                        await stored.resolve(tx)
                    log.warning("A connectivity target answers again: monitors are judged")
                    told = False
                    connectivity.doubted.clear()
            except UNAVAILABLE as error:
                log.warning("Database unavailable", error=f"{type(error).__name__}: {error}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause if connectivity.doubted.is_set() else min(pause, 1.0)):
                await stop.wait()
