"""Delivering: claim what is due, or take what is handed off; send; record the result.

Sending is concurrent, with a cap for each destination that grows with its successes and falls with its failures, so
that a dead destination takes few slots and a working one never waits for it. No transaction is open during a send.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import msgspec
import structlog
from msgspec.structs import replace

from tocsin.domain import ids, requests
from tocsin.domain.counters import Counters
from tocsin.domain.deliveries import (
    ATTEMPT_TIMEOUT,
    ONGOING_EVENTS,
    Delivered,
    Failed,
    Finish,
    Interrupted,
    Outcome,
    Suppressed,
    next_step,
)
from tocsin.engine import trail
from tocsin.engine.destinations import DEFAULT_ROOM, FIRST_CAP, Destination, at_fault
from tocsin.engine.permits import PermittedAttempt, database_unavailable
from tocsin.engine.record import FinishedAttempt, Recorder
from tocsin.integrations.base import Transports, every
from tocsin.storage.accounts import links
from tocsin.storage.channels.integrations import Sendable, sendable
from tocsin.storage.delivery import details, health, leases
from tocsin.storage.delivery.leases import Attempt, AttemptResult, Lease, Recorded
from tocsin.storage.delivery.queue import LEASE, Job
from tocsin.storage.postgres.database import UNAVAILABLE
from tocsin.storage.postgres.group_commit import GroupCommit
from tocsin.storage.postgres.secrets import Vault
from tocsin.storage.postgres.session import OutcomeUnknown

log = structlog.get_logger(__name__)

SLOTS = 4096
"""Maximum concurrent attempts over all destinations: enough for hundreds that hang."""
CLAIM_LIMIT = 500
POLL = 0.5
"""Seconds between polls of the queue while no NOTIFY arrives."""
START_DEADLINE = LEASE - 2 * ATTEMPT_TIMEOUT
"""Seconds within which a leased job must start; else it is returned, while its lease still covers an attempt."""
BACKLOG = 10_000
"""Jobs waiting in this process above which it accepts no more hand-offs."""
CACHE_SIZE = 2_000
"""Maximum idle destinations, and settings of integrations, that are cached."""
REFUSED_PAUSE = 5.0
"""Seconds until the next attempt after the database was reachable but failed a statement."""
ATTEMPT_GRACE = 0.5
"""Seconds of grace beyond `ATTEMPT_TIMEOUT` before an attempt is cancelled."""
NOBODY = UUID(int=0)


class RunningAttempt(msgspec.Struct, eq=False):
    """An attempt from its start until its result is recorded. `began` is monotonic time."""

    job: Job
    destination: Destination
    began: float
    permitted: PermittedAttempt | None = None
    sending: bool = True
    overdue: bool = False


class Deliverer:
    """Delivers for one engine. `claim_forever` is its loop; `accept` takes jobs, from a claim or from a hand-off."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault, transports: Transports, schedule: Sequence[float]) -> None:
        self.number: int | None = None
        self.wake = asyncio.Event()
        self.counters = Counters()
        self.unsure = False
        """Whether there may be leases of this engine that it does not know of."""
        self._pool = pool
        self._vault = vault
        self._transports = transports
        self._schedule = schedule
        self._follows_all = trail.everything()
        self._recorder = Recorder(pool)
        self._load = GroupCommit[UUID, Sendable | None](pool, self._load_sendables)
        self._settings_cache: dict[UUID, Sendable] = {}
        self._destinations: dict[UUID, Destination] = {}
        self._attempts: dict[RunningAttempt, asyncio.Task[None]] = {}  # oldest first
        self._claiming = asyncio.Lock()
        self._expired: list[Job] = []
        self._waiting_for_slot: dict[UUID, Destination] = {}
        self._backlog = 0
        self._stopping = False
        self._succeeded: dict[UUID, int] = {}
        self._failed: Counter[UUID] = Counter()

    # ---------------------------------------------------------------------------------------------- incoming jobs

    def accept_payload(self, payload: str) -> None:
        """Jobs that came with a NOTIFY."""
        self.accept(msgspec.json.decode(payload, type=list[Job]))

    def accept(self, jobs: Iterable[Job]) -> None:
        """Take leased jobs; those that cannot start in time go back to the queue."""
        start_by = time.monotonic() + START_DEADLINE
        for job in jobs:
            destination = self._destinations.get(job.integration_id)
            if destination is None:
                destination = self._destinations[job.integration_id] = Destination(job.integration_id)
            destination.waiting.append((start_by, job))
            self._backlog += 1
            self._begin(destination)

    def _begin(self, destination: Destination) -> None:
        while destination.waiting and destination.under_way < destination.cap:
            now = time.monotonic()
            if len(self._attempts) >= SLOTS:
                self._waiting_for_slot[destination.id] = destination
                return
            start_by, job = destination.waiting.popleft()
            self._backlog -= 1
            if self._stopping or now > start_by:
                self._expired.append(job)
                continue
            destination.under_way += 1
            running = RunningAttempt(job, destination, now)
            self._attempts[running] = asyncio.create_task(self._attempt(running))

    @property
    def accepting(self) -> bool:
        return not self._stopping and self._backlog < BACKLOG

    @property
    def _holding(self) -> set[Lease]:
        waiting = [job for each in self._destinations.values() for _, job in each.waiting]
        running = [each.job for each in self._attempts]
        return {(job.id, job.attempt) for job in [*waiting, *running, *self._expired]}

    async def return_unknown_leases(self, connection: asyncpg.Connection) -> None:
        """Return leases of this engine that it does not know of, as after a lost connection."""
        assert self.number is not None
        self.unsure = False
        async with self._claiming:  # what is being claimed is not unknown
            found = await leases.leased(connection, self.number)
            await asyncio.sleep(0)  # lets the listeners handle what has already arrived
            async with connection.transaction():
                await leases.return_leases(connection, found - self._holding)

    async def claim_forever(self, stop: asyncio.Event) -> None:
        """Claim what is due, whenever woken and at each poll."""
        start = NOBODY
        while not stop.is_set():
            free = SLOTS - len(self._attempts)
            if self.number is not None and free >= SLOTS // 2 and self.accepting:
                async with self._claiming:
                    jobs = await self._claim(self.number, start)
                full = len(jobs) >= CLAIM_LIMIT
                if full or start != NOBODY:
                    start = max(job.integration_id for job in jobs) if full else NOBODY
                    await asyncio.sleep(0)
                    continue
            await self._return_expired()
            self._stop_overdue()
            try:
                async with asyncio.timeout(POLL):
                    await self.wake.wait()
            except TimeoutError:
                pass
            self.wake.clear()

    async def _claim(self, number: int, start: UUID) -> list[Job]:
        if self._stopping:
            return []
        known = self._destinations.values()
        busy = {each.id: each.room for each in known if each.under_way or each.waiting or each.down}
        try:
            async with self._pool.acquire() as tx, tx.transaction():
                jobs = await leases.claim(
                    tx, engine=number, start=start, limit=CLAIM_LIMIT, room=busy, default_room=DEFAULT_ROOM,
                    public_url=self._transports.public_url,
                )  # fmt: skip
        except OutcomeUnknown:
            self.unsure = True
            raise
        self.accept(jobs)
        claimed = Counter(job.integration_id for job in jobs)
        for each in self._destinations.values():
            each.more = len(jobs) >= CLAIM_LIMIT or claimed[each.id] >= busy.get(each.id, DEFAULT_ROOM)
        return jobs

    async def _return_expired(self) -> None:
        now = time.monotonic()
        for destination in list(self._destinations.values()):
            while destination.waiting and destination.waiting[0][0] < now:
                self._expired.append(destination.waiting.popleft()[1])
                self._backlog -= 1
        if len(self._destinations) > CACHE_SIZE:
            idle = [each.id for each in self._destinations.values() if not each.waiting and not each.under_way]
            for each in idle[: len(self._destinations) - CACHE_SIZE]:
                del self._destinations[each]
        if self._expired:
            late, self._expired = self._expired, []
            try:
                async with self._pool.acquire() as tx, tx.transaction():
                    await leases.return_jobs(tx, late)
            except BaseException:
                self._expired += late
                raise

    def _stop_overdue(self) -> None:
        """Cancel attempts that their type did not end in time. One scan of all costs less than a timer for each."""
        latest = time.monotonic() - ATTEMPT_TIMEOUT - ATTEMPT_GRACE
        for each, task in self._attempts.items():
            if each.began > latest:
                return
            if each.sending and not each.overdue:
                each.overdue = True
                task.cancel()

    # ------------------------------------------------------------------------------------------------- one attempt

    async def _attempt(self, running: RunningAttempt) -> None:
        job, destination = running.job, running.destination
        requests.ORIGIN.set(job.origin)  # of this task, which may have been begun by another
        started_at, started = datetime.now(UTC), time.perf_counter()
        outcome: Outcome = Interrupted()
        try:
            outcome = await self._send(running)
        except asyncio.CancelledError:
            if running.overdue:
                outcome = Failed(f"No answer within {ATTEMPT_TIMEOUT:g} seconds")
            elif not self._stopping:
                raise
        finally:
            running.sending = False
            duration = round((time.perf_counter() - started) * 1000, 1)
            destination.under_way -= 1
            was_down = destination.down
            destination.adjust(outcome)
            if destination.down:
                self._expired += [job for _, job in destination.waiting]
                self._backlog -= len(destination.waiting)
                destination.waiting.clear()
            self._begin(destination)
            up_again = was_down and not destination.down
            if up_again or (destination.more and destination.room >= 2 * min(destination.cap, FIRST_CAP)):
                self.wake.set()
        try:
            if running.permitted is not None:
                outcome = running.permitted.final_outcome(outcome)
            result = self._result(job, outcome, started_at, duration)
            recorded = await self._recorder.record(FinishedAttempt(result, outcome, running.permitted))
            self._count(job, destination.type, result, recorded)
            well = result.attempt_record.outcome == "delivered" and not job.failures
            if recorded.accepted and (self._follows_all or not well):
                trail.follow(job, destination.type, result, recorded)
        finally:
            del self._attempts[running]
            while self._waiting_for_slot and len(self._attempts) < SLOTS:
                self._begin(self._waiting_for_slot.pop(next(iter(self._waiting_for_slot))))

    async def _send(self, running: RunningAttempt) -> Outcome:
        job = running.job
        try:
            to = await self._sendable(job)
        except UNAVAILABLE as error:
            return database_unavailable(error)
        except asyncpg.PostgresError as error:
            return _refused(job, error)
        except Exception as error:
            log.exception("Settings could not be loaded", delivery=ids.public(ids.DELIVERY, job.id))
            return Failed(f"Internal error: {type(error).__name__}")
        if to is None:
            return Suppressed("integration deleted")
        running.destination.type = to.type
        if to.blocked is not None:
            return Suppressed(to.blocked)
        if to.failure is not None:
            return Failed(to.failure)
        try:
            kind, notification = every()[to.type], job.notification
            if kind.for_people:
                stop = links.unsubscribe(self._vault, self._transports.public_url, to.id)
                take, incident = None, job.content.incident_id
                if job.event in ONGOING_EVENTS and incident is not None:
                    take = links.acknowledgement(self._vault, self._transports.public_url, incident, to.id)
                notification = replace(notification, unsubscribe_url=stop, acknowledge_url=take)
            if kind.wants_details(to.settings) and job.content.incident_id is not None:
                try:
                    async with self._pool.acquire() as tx:
                        found = await details.of_incident(tx, job.project_id, job.content.incident_id)
                except UNAVAILABLE as error:
                    return database_unavailable(error)
                notification = replace(notification, details=found)
            if kind.needs_permit(to):
                running.permitted = PermittedAttempt(self._pool, kind, job, to.settings)
                return await running.permitted.send(notification, self._transports)
            return await kind.send(to.settings, notification, self._transports)
        except asyncpg.PostgresError as error:  # raised while asking for a permit: transports do not use the database
            return _refused(job, error)
        except Exception as error:
            log.exception("Unexpected error in an attempt", delivery=ids.public(ids.DELIVERY, job.id))
            return Failed(f"Internal error: {type(error).__name__}")

    async def _sendable(self, job: Job) -> Sendable | None:
        """The integration's settings: cached while unchanged, but what people may receive is checked each time."""
        kept = self._settings_cache.get(job.integration_id)
        if kept is not None and kept.version >= job.version:
            return kept
        loaded = await self._load(job.integration_id)
        if loaded and not (loaded.failure or loaded.blocked or every()[loaded.type].for_people):
            self._settings_cache[job.integration_id] = loaded
            if len(self._settings_cache) > CACHE_SIZE:
                del self._settings_cache[next(iter(self._settings_cache))]
        return loaded

    async def _load_sendables(self, tx: asyncpg.Connection, ids: Sequence[UUID]) -> list[Sendable | None]:
        found = await sendable(tx, self._vault, ids)
        return [found.get(each) for each in ids]

    def _result(self, job: Job, outcome: Outcome, started_at: datetime, duration: float) -> AttemptResult:
        then = next_step(outcome, job.failures, self._schedule, random.random())  # noqa: S311
        match outcome:
            case Delivered(status_code, response):
                what = Attempt(started_at, duration, "delivered", status_code, response)
                self._succeeded[job.integration_id] = max(job.version, self._succeeded.get(job.integration_id, 0))
            case Failed():
                what = Attempt(
                    started_at, duration, "failed", outcome.status_code, outcome.response or None, outcome.error
                )
                if at_fault(outcome):
                    self._failed[job.integration_id] += 1
            case Suppressed(reason):
                what = Attempt(started_at, duration, "suppressed", error=reason)
            case Interrupted(error):
                what = Attempt(started_at, duration, "interrupted", error=error)
        wait = outcome.retry_after if isinstance(outcome, Failed) else None
        return AttemptResult(job.id, job.attempt, job.integration_id, what, then, isinstance(outcome, Failed), wait)

    def _count(self, job: Job, kind: str, result: AttemptResult, recorded: Recorded) -> None:
        self.counters.count("attempts", kind, result.attempt_record.outcome)
        self.counters.observe("attempt_seconds", (result.attempt_record.duration_ms or 0.0) / 1000, kind)
        if recorded.finished_at is not None and isinstance(result.next_step, Finish):
            self.counters.count("deliveries", kind, result.next_step.status)
            if result.next_step.status == "delivered":
                self.counters.observe("delivery_seconds", (recorded.finished_at - job.created_at).total_seconds(), kind)

    async def flush_health(self) -> None:
        """Store which integrations worked and which failed since the last flush. If that fails, the next flush includes
        them.
        """
        succeeded, self._succeeded = self._succeeded, {}
        failed, self._failed = self._failed, Counter()
        try:
            async with self._pool.acquire() as tx, tx.transaction():
                await health.record_results(tx, succeeded, failed)
        except BaseException:
            self._succeeded = succeeded | self._succeeded
            self._failed += failed
            raise

    # ------------------------------------------------------------------------------------------------- shutdown

    async def drain(self, seconds: float) -> None:
        """Start nothing more, return what waits, and let running attempts end; interrupt them after `seconds`."""
        self._stopping = True
        async with self._claiming:
            for destination in self._destinations.values():
                self._expired.extend(job for _, job in destination.waiting)
                destination.waiting.clear()
            self._backlog = 0
        with contextlib.suppress(*UNAVAILABLE):
            await self._return_expired()
        if self._attempts:
            _, unfinished = await asyncio.wait(self._attempts.values(), timeout=seconds)
            for task in unfinished:
                task.cancel()
            if unfinished:
                await asyncio.wait(unfinished, timeout=1)


def _refused(job: Job, error: asyncpg.PostgresError) -> Interrupted:
    """The fault is the service's own, never the destination's."""
    log.error("Database error during an attempt", delivery=ids.public(ids.DELIVERY, job.id), exc_info=error)
    return Interrupted(f"Interrupted: database error ({type(error).__name__})", REFUSED_PAUSE)
