"""A probe at work: it asks the service what to check, checks it with the very same code, and sends what it saw.

It knows the service's time from the service's answers and its own monotonic clock, so that it does not matter what its
machine takes for the time. While the service is away it goes on checking, and keeps what it saw for an hour.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, TypeVar

import msgspec
import structlog

from tocsin import __version__
from tocsin.checks.base import CheckContext, types
from tocsin.checks.second_tries import SecondTries
from tocsin.cli.probe_results import Kept, Results
from tocsin.domain.monitors import Target
from tocsin.domain.places import round_at
from tocsin.transports.http import Http, Unreachable

log = structlog.get_logger(__name__)

WAIT = 25
"""Seconds that the service may hold a request for work."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds until the service is asked again that did not answer."""
GATHER = 0.2
"""Seconds in which results gather before they are sent."""
MAX_CONCURRENT, SLOW, MAX_RUNNING = 200, 1.0, 2_000
"""As in an engine."""
LOOK = 1.0
OFFSETS = 10
ANEW = 3_600.0
"""Seconds after which a probe asks for all that it is to check, whatever it knows."""
UNAUTHORIZED = 401
REFUSALS = frozenset((400, 413, 422))
"""What the service says of results that it will never take as they are."""


Said = TypeVar("Said")


class Revoked(Exception):
    """The service does not know the token, or not any more."""


class ServiceClock:
    """The service's time: what its answers said, and how long ago. An answer is late, never early, so the latest of
    the last few is the best.
    """

    def __init__(self) -> None:
        self._epochs: deque[datetime] = deque(maxlen=OFFSETS)

    def learn(self, now: datetime) -> None:
        self._epochs.append(now - timedelta(seconds=monotonic()))

    def now(self) -> datetime:
        return max(self._epochs) + timedelta(seconds=monotonic())


class TargetSaid(msgspec.Struct):
    url: str
    check_type: str
    timeout: float
    options: dict[str, Any]
    unreadable: str | None = None


class CheckSaid(msgspec.Struct):
    uuid: str
    version: str
    interval: float
    target: TargetSaid


class WorkSaid(msgspec.Struct):
    """What the service answers. What a newer one says besides is ignored."""

    now: datetime
    cursor: str
    next_seq: int
    checks: list[CheckSaid]
    gone: list[str]
    ask: list[str]
    more: bool = False


class ErrorSaid(msgspec.Struct):
    error: str
    message: str


class Accepted(msgspec.Struct):
    accepted: int
    gone: list[str]


class _NoAnswer(Exception):
    """The service did not answer, or not with what was asked for. `refused`: it will never take this."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


@dataclass(slots=True)
class Watched:
    """A monitor that is checked: in each round at its own time, so that not all are checked at once."""

    uuid: str
    version: str
    interval: float
    target: Target
    phase: float
    round: int
    at_once: bool = True
    failed: bool = False

    def due_in(self, now: datetime) -> float:
        """Seconds until its next check."""
        return 0.0 if self.at_once else (self.round + 1) * self.interval + self.phase - now.timestamp()


class Prober:
    """One probe. `run` returns when `stop` is set, and raises `Revoked`."""

    def __init__(self, url: str, token: str, http: Http, context: CheckContext, *, wait: int = WAIT) -> None:
        self._url = url.rstrip("/")
        self._headers = {
            "Authorization": f"Bearer {token}", "Content-Type": "application/json",
            "User-Agent": f"Tocsin-Probe/{__version__}",
        }  # fmt: skip
        self._seed = hashlib.sha256(token.encode()).hexdigest()
        self._http = http
        self._context = context
        self._wait = wait
        self._clock = ServiceClock()
        self._cursor: str | None = None
        self._watched: dict[str, Watched] = {}
        self._unsaid: set[str] = set()  # of those, what was not said again yet when all are
        self._running: dict[str, float] = {}
        self._second_tries = SecondTries()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._results = Results()

    async def run(self, stop: asyncio.Event) -> None:
        loops = [asyncio.create_task(each(stop)) for each in (self._ask, self._check, self._send)]
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*loops, stopping], return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            for task in (*loops, stopping, *self._tasks):
                task.cancel()
            await asyncio.gather(*loops, stopping, *self._tasks, return_exceptions=True)

    # What is to be checked.

    async def _ask(self, stop: asyncio.Event) -> None:
        pause, told, all_at = FIRST_PAUSE, False, monotonic()
        while not stop.is_set():
            if self._cursor is not None and monotonic() > all_at + ANEW:
                self._cursor, all_at = None, monotonic()
            fresh = self._cursor is None
            try:
                said = await self._post("work", {
                    "cursor": self._cursor, "wait": 0 if fresh else self._wait, "version": __version__,
                }, WorkSaid)  # fmt: skip
            except _NoAnswer as error:
                if not told:
                    log.warning("The service does not answer; checks go on", error=str(error))
                told = True
                await _rest(stop, pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            if told or fresh:
                log.info("The service answers", monitors=len(said.checks) if fresh else len(self._watched))
            pause, told = FIRST_PAUSE, False
            self._take(said, fresh=fresh)

    def _take(self, said: WorkSaid, *, fresh: bool) -> None:
        self._clock.learn(said.now)
        if self._results.begin(said.next_seq):
            log.warning("Results of another process came with this token: each probe needs one of its own")
        if fresh:
            self._unsaid = set(self._watched)
        for check in said.checks:
            self._unsaid.discard(check.uuid)
            self._watch(check)
        for uuid in said.gone if said.more else (*said.gone, *self._unsaid):
            self._watched.pop(uuid, None)
        if not said.more:
            self._unsaid.clear()
        for uuid in said.ask:
            if uuid in self._watched:
                self._watched[uuid].at_once = True
        self._cursor = said.cursor
        self._changed.set()

    def _watch(self, check: CheckSaid) -> None:
        given, known = check.target, self._watched.get(check.uuid)
        if known is not None and known.version == check.version:
            return
        if given.check_type not in types():
            log.warning("This version has no such checks: install a newer one", check_type=given.check_type)
            self._watched.pop(check.uuid, None)
            return
        target = Target(given.url, given.check_type, given.timeout, given.options, given.unreadable)
        share = int(hashlib.sha256(f"{self._seed}{check.uuid}".encode()).hexdigest()[:8], 16) / 2**32
        phase = share * check.interval
        self._watched[check.uuid] = Watched(
            check.uuid, check.version, check.interval, target, phase,
            round_at(self._clock.now() - timedelta(seconds=phase), check.interval),
        )  # fmt: skip

    # Checking.

    async def _check(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._changed.clear()
            soonest = LOOK
            if self._watched:
                now = self._clock.now()
                for each in list(self._watched.values()):
                    due_in = each.due_in(now)
                    if due_in > 0 or each.uuid in self._running:
                        soonest = min(soonest, due_in) if due_in > 0 else soonest
                    elif self._room:
                        self._begin(each, now)
                    else:
                        soonest = 0.05
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(soonest, 0.005)):
                    await self._changed.wait()

    @property
    def _room(self) -> bool:
        since = monotonic() - SLOW
        quick = sum(began > since for began in self._running.values())
        return quick < MAX_CONCURRENT and len(self._running) < MAX_RUNNING

    def _begin(self, each: Watched, now: datetime) -> None:
        """Its rounds are numbered by the clock; missed ones are skipped."""
        each.round = round_at(now - timedelta(seconds=each.phase), each.interval)
        each.at_once = False
        self._running[each.uuid] = monotonic()
        task = asyncio.create_task(self._run_check(each, now))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_check(self, each: Watched, at: datetime) -> None:
        round_ = each.round
        try:
            result = await self._second_tries.check(each.target, self._context, lambda: not each.failed)
            each.failed = not result.ok
            if self._watched.get(each.uuid) is each:
                self._results.add(each.uuid, each.version, round_, at, result)
        except OSError as error:  # this machine lacks resources: that says nothing about the site
            log.warning("Check skipped: this machine is short of something", monitor=each.uuid, error=str(error))
        except Exception:
            log.exception("Unexpected error in a check", monitor=each.uuid)
        finally:
            del self._running[each.uuid]
            self._changed.set()

    # What was seen.

    async def _send(self, stop: asyncio.Event) -> None:
        pause = FIRST_PAUSE
        while not stop.is_set():
            await self._results.some.wait()
            await asyncio.sleep(GATHER)
            batch = self._results.batch()
            if not batch:
                continue
            try:
                said = await self._post("results", {"results": [msgspec.Raw(each.body) for each in batch]}, Accepted)
            except _NoAnswer as error:
                if error.refused:
                    self._results.refused(batch, str(error))
                    continue
                await _rest(stop, pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            self._results.accepted(said.accepted)
            self._forget(batch, said.gone)

    def _forget(self, batch: list[Kept], gone: list[str]) -> None:
        """No longer check these; but those that have changed meanwhile are known already as they are."""
        sent = {(each.uuid, each.version) for each in batch}
        for uuid in gone:
            known = self._watched.get(uuid)
            if known is not None and (uuid, known.version) in sent:
                del self._watched[uuid]

    async def _post(self, path: str, body: object, shape: type[Said]) -> Said:
        try:
            answer = await self._http.post(f"{self._url}/probe/v1/{path}", msgspec.json.encode(body), self._headers)
        except Unreachable as error:
            raise _NoAnswer(str(error)) from None
        if answer.status == UNAUTHORIZED and _is_an_error_of_ours(answer.text):
            raise Revoked
        if answer.status != 200:
            refused = answer.status in REFUSALS and _is_an_error_of_ours(answer.text)
            raise _NoAnswer(f"HTTP status {answer.status}: {answer.text[:300]}", refused=refused)
        if not answer.complete:
            raise _NoAnswer("Its answer is not complete")
        try:
            return msgspec.json.decode(answer.text, type=shape)
        except msgspec.DecodeError as error:
            raise _NoAnswer(f"Its answer is not that of a Tocsin: {error}") from None


def _is_an_error_of_ours(text: str) -> bool:
    """Not of a proxy that does not reach the service."""
    try:
        msgspec.json.decode(text, type=ErrorSaid)
    except msgspec.MsgspecError:
        return False
    return True


async def _rest(stop: asyncio.Event, seconds: float) -> None:
    """Not all probes at the same moment."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds * random.uniform(0.5, 1.0)):  # noqa: S311
            await stop.wait()
