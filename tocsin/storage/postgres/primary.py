"""Where a process finds its database: one primary for all its pools, looked for once for everybody, and watched over.

A session that is in use for longer than usual is no trouble by itself. But then the server is asked, by another
session, whether it lives, is still the primary, and waits for a standby. One that is silent loses all its sessions at
once, so that nobody keeps a dead primary; whoever asks for a session then waits for one search that is made for all.
One that lives, and has not heard what a caller's session asks, loses that session. What it works on is left to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import Context
from typing import Any, TypeAlias

import asyncpg
import structlog

from tocsin.domain.database_hosts import Host, hosts_of
from tocsin.storage.postgres import connecting, pooler
from tocsin.storage.postgres.connecting import Newest, NoPrimary, NotPrimary, reason
from tocsin.storage.postgres.session import LET_IN_NOBODY, LOST, Session
from tocsin.storage.postgres.unclaimed import Unclaimed, failure

log = structlog.get_logger(__name__)

TICK = 0.2
"""Seconds between two looks at what is in use. Time is counted in these: nobody is blamed for our own standstill."""
LOOK_AT_TICKS = frozenset(range(2, 16, 2))
"""Ticks of use after which the server is asked whether it lives; and again every `LOOK_EVERY_TICKS` ticks."""
LOOK_EVERY_TICKS = 24
DOUBTED = 3
"""Ticks between two such questions while it waits for a standby, or gives nobody a session."""
SILENT = 6
"""Ticks without an answer after which a server counts as gone."""
GIVE_UP = 7
"""Ticks after which whoever has a caller waiting is told that the database waits for a standby."""
AT_ONCE = 1.0
"""Seconds in which one of several hosts gives a session while nothing is wrong; else it is looked for."""
SLOWER = 3.0
"""A session may take so many times as long as usual, and an answer too, however far away the primary is."""
PAUSE = 0.25
"""Seconds from a refusal until the host is asked again, while a primary is looked for."""
FORGET = 5.0
"""Seconds without anybody who needs a session, after which it is not looked for any more."""

OURS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Errors of this machine, which say nothing about the database."""

Prepare: TypeAlias = Callable[[Session], Awaitable[None]]
"""What is done with a session before anybody has it."""

# One that hangs while it waits says so for ever: nobody waits where as many standbys as are needed have all that is
# written. Who may not see that sees none of them.
STATE_QUERY = """
SELECT EXISTS (
    SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep'
    AND query_start < clock_timestamp() - interval '0.8 s'
) AND coalesce(substring(current_setting('synchronous_standby_names') FROM '([0-9]+) *[(]')::int, 1) > (
    SELECT count(*) FROM pg_stat_replication
    WHERE sync_state IN ('sync', 'quorum') AND pg_current_wal_flush_lsn() <=
        CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN replay_lsn ELSE flush_lsn END
)
"""

# What was sent to these never came there. They are ended there, too, for they may hold locks.
DEAF = """
SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid = ANY($1::int[]) AND state LIKE 'idle%' AND state_change < clock_timestamp() - interval '0.8 s'
"""
UNHEARD = 0.8
"""Seconds for which nothing was answered to a session that may be one that is not heard."""

SILENCE = "does not answer"
WAITS = "waits for a standby to confirm what is written"


class WaitsForStandby(ConnectionError):
    """The primary answers, but its commits wait for a synchronous standby: nothing is sent to it meanwhile."""


class Primary:
    """The primary of one address, for one process."""

    def __init__(self, url: str, *, callers: bool = False) -> None:
        self.url = url
        self.hosts = hosts_of(url)
        self.callers = callers
        """Whether somebody waits for what is sent, and is told in time that it may be done or not."""
        self.waits_for_standby = self._closed = False
        self.lost_at: float | None = None
        """The loop's time when the primary was lost; None while there is one. `outage`: how long the last one was."""
        self.regained_at: float | None = None
        self.outage = 0.0
        self._good: Host | None = None
        self._pooled: bool | None = None
        self._newest: Newest = {}
        self._why: BaseException | None = None
        self._said: dict[Host, BaseException] = {}
        self._search: asyncio.Task[None] | None = None
        self._asked_at = 0.0
        self._usual = 0.0
        """Seconds that a session with the good host took, when it took least: those of its round trips."""
        self._unclaimed = Unclaimed()
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._in_use: dict[Any, int] = {}
        self._heard = self._ticks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._judging: asyncio.Task[None] | None = None

    @property
    def trouble(self) -> str | None:
        """What is wrong with the database at present, to follow its name."""
        if self.waits_for_standby:
            return WAITS
        return None if self.lost_at is None else f"cannot be reached at present: {reason(self._why or NoPrimary({}))}"

    @property
    def host(self) -> Host | None:
        """Where it is, or was last."""
        return self._good

    @property
    def back_for(self) -> float | None:
        """Seconds since the end of the last outage; None if there was none."""
        return None if self.regained_at is None else asyncio.get_running_loop().time() - self.regained_at

    # --------------------------------------------------------------------------------------------------- new sessions

    async def connect(self, *_: Any, **options: Any) -> Session:
        """A session, as soon as there is a primary: the caller says how long that may take. One that is not there by
        then is for the next who asks. Raises the driver's errors for anything but a database that is away, or lets
        nobody in.
        """
        options.pop("loop", None)
        options.pop("connection_class", None)
        return await self._unclaimed.claim(repr(options), lambda: self._make(**options))

    async def _make(self, *, prepare: Prepare | None = None, **options: Any) -> Session:
        loop = asyncio.get_running_loop()
        several = len(self.hosts) > 1
        if several and self._good is None and self.lost_at is None:  # who asks first is not to wait for a silent host
            self.lost_at = loop.time()
        tried = False
        patience = max(AT_ONCE, SLOWER * self._usual)
        while not self._closed:
            if self.lost_at is not None:
                await self._found()
                patience = connecting.HOST_TIMEOUT
            began, let_in = loop.time(), False
            try:
                async with asyncio.timeout(patience if several else None):
                    session = await connecting.connect(
                        self.url, hosts=self.hosts, first=self._good, newest=self._newest, **options
                    )
                took, let_in = loop.time() - began, True
                async with asyncio.timeout(max(connecting.HOST_TIMEOUT, SLOWER * took)):
                    await self._prepare(session, prepare, options)
            except LET_IN_NOBODY as error:
                if isinstance(error, asyncpg.InsufficientResourcesError) or (let_in and not isinstance(error, LOST)):
                    raise
                if isinstance(error, OSError) and error.errno in OURS:
                    raise
                self._lose(error)
                if tried:  # it is found, and yet of no use
                    await asyncio.sleep(PAUSE)
                tried = True
                continue
            self._sessions.add(session)
            self._gain(session.host)
            self._usual = min(self._usual or took, took)
            return session
        raise NotPrimary("is not needed any more")

    async def _prepare(self, session: Session, prepare: Prepare | None, options: dict[str, Any]) -> None:
        """Make it ready for use, or end it."""
        try:
            self._pooled = await pooler.stands_before(session) if self._pooled is None else self._pooled
            if self._pooled:
                await pooler.apply(session, options.get("server_settings", {}))
            if prepare is not None:
                await prepare(session)
        except BaseException:
            session.terminate()
            raise

    def close(self) -> None:
        """End all sessions, and let nobody have another one."""
        self._closed = True
        self._unclaimed.close()
        for session in list(self._sessions):
            session.end("the database is not needed any more")

    async def _found(self) -> None:
        self._asked_at = asyncio.get_running_loop().time()
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(self._look_for_it(), context=Context())
        await asyncio.shield(self._search)

    async def _look_for_it(self) -> None:
        """Ask each host again and again, for as long as anybody needs one."""
        loop = asyncio.get_running_loop()
        asking = {asyncio.create_task(self._until_it_may_write(host)): host for host in self.hosts or (None,)}
        try:
            while loop.time() < self._asked_at + FORGET and not self._closed:
                done, others = await asyncio.wait(asking, timeout=TICK, return_when=asyncio.FIRST_COMPLETED)
                if done and others and self._good is None:  # there may be two; later, the newest timeline is known
                    done |= (await asyncio.wait(others, timeout=connecting.HEAD_START))[0]
                if done:
                    self._gain(asking[max(done, key=lambda each: each.result())])
                    return
        finally:
            for each in asking:
                each.cancel()

    async def _until_it_may_write(self, host: Host | None) -> int:
        """Returns its timeline, or 0."""
        several = len(self.hosts) > 1
        while True:
            try:
                session = await connecting.ask(
                    self.url, host, one_of_several=several, newest=self._newest if several else None,
                    server_settings={"application_name": "tocsin, looking for the primary"},
                )  # fmt: skip
            except LET_IN_NOBODY as error:
                if not several and isinstance(error, asyncpg.InsufficientResourcesError):
                    return 0  # it answers: who asks for a session is told the same
                self._note(host, error)
            else:
                session.terminate()
                return session.timeline
            await asyncio.sleep(PAUSE)

    def _note(self, host: Host | None, error: BaseException) -> None:
        if host is None or len(self.hosts) < 2:
            self._why = error
            return
        self._said[host] = error
        self._why = NoPrimary(self._said)

    def _gain(self, host: Host | None) -> None:
        if host != self._good and self._good is not None:
            log.info("Another host is the primary now", host=str(host))
            self._end_sessions(self._good, "is not the primary any more")
            self._usual = 0.0
        self._good = host
        if self.lost_at is None:
            return
        now = asyncio.get_running_loop().time()
        self.outage, self.regained_at, self.lost_at = now - self.lost_at, now, None
        self._said.clear()

    def _lose(self, error: BaseException) -> None:
        self.waits_for_standby = False  # nobody would look for one
        self._why = error
        if self.lost_at is None:
            self.lost_at = asyncio.get_running_loop().time()
            log.warning("Database unavailable; looking for it", error=reason(error))

    # ------------------------------------------------------------------------------------------------ sessions in use

    def took(self, lent: Any) -> None:
        """A session of a pool is in use from now on."""
        self._in_use[lent] = 0
        if self._timer is None:  # it watches over all of them: nothing that it says is of this one's request
            self._timer = asyncio.get_running_loop().call_later(TICK, self._tick, context=Context())

    def gave_back(self, lent: Any, error: BaseException | None) -> None:
        """It is in use no longer; `error` is how that ended."""
        self._in_use.pop(lent, None)
        if error is None:
            self._heard += 1
        elif isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            self._give_up(self._good, "is read-only now")

    @contextlib.asynccontextmanager
    async def watched(self, session: Session) -> AsyncIterator[None]:
        """A session of no pool is in use in here."""
        self.took(session)
        try:
            yield
        except BaseException as error:
            self.gave_back(session, error)
            raise
        self.gave_back(session, None)

    def _tick(self) -> None:
        self._timer = None
        self._ticks += 1
        doubted = self.waits_for_standby or self.lost_at is not None
        if self._in_use or self.waits_for_standby:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)
        asked = doubted and self._ticks % DOUBTED == 0
        for lent, ticks in self._in_use.items():
            self._in_use[lent] = ticks + 1
            asked = asked or ticks + 1 in LOOK_AT_TICKS or (ticks + 1) % LOOK_EVERY_TICKS == 0
        if self.waits_for_standby and self.callers:
            self._tell_those_who_wait()
        if asked and (self._judging is None or self._judging.done()):
            self._judging = asyncio.create_task(self._judge(self._good))

    def _tell_those_who_wait(self) -> None:
        """End sessions that wait for a standby: what they sent may be done or not."""
        for lent, ticks in list(self._in_use.items()):
            if ticks >= GIVE_UP:
                with contextlib.suppress(AttributeError):  # it has ended by itself
                    lent.end(f"the database {WAITS}")

    async def _judge(self, host: Host | None) -> None:
        """Ask the server whether it lives. If it does not, nobody keeps a session with it."""
        heard = self._heard
        looking = asyncio.create_task(self._waits(host))
        looking.add_done_callback(failure)
        try:
            for _ in range(max(SILENT, round(SLOWER * self._usual / TICK))):
                done, _ = await asyncio.wait({looking}, timeout=TICK)
                if done:
                    break
        finally:
            if not looking.done():
                looking.cancel()
        if host != self._good:
            return  # another one was found meanwhile
        if looking.cancelled() or not looking.done():
            if self._heard == heard:
                self._give_up(host, SILENCE)
            return
        match looking.exception():
            case None:
                self._gain(host)
                self._wait_for_standby(looking.result())
            case NotPrimary() | ConnectionRefusedError() | FileNotFoundError() as error:
                self._give_up(host, reason(error))
            case _:  # it answers, if only that it has no room for one more
                pass

    async def _waits(self, host: Host | None) -> bool:
        several = len(self.hosts) > 1
        session = await connecting.ask(
            self.url, host, one_of_several=several, newest=self._newest if several else None,
            server_settings={"application_name": "tocsin, asking whether it lives"},
        )  # fmt: skip
        try:
            waits = bool(await session.fetchval(STATE_QUERY))
            if self.callers and not waits and (silent := self._silent()):
                for row in await session.fetch(DEAF, list(silent)):
                    self._end_deaf(row["pid"], silent[row["pid"]])
            return waits
        finally:
            session.terminate()

    def _silent(self) -> dict[int, Any]:
        """Sessions that wait for an answer, by their processes; none behind a pooler, which has numbers of its own."""
        latest = asyncio.get_running_loop().time() - UNHEARD
        found: dict[int, Any] = {}
        for lent in () if self._pooled else self._in_use:
            with contextlib.suppress(AttributeError, asyncpg.InterfaceError):  # it has ended by itself
                if lent.asked is not None and lent.asked < latest:
                    found[lent.get_server_pid()] = lent
        return found

    def _end_deaf(self, pid: int, lent: Any) -> None:
        with contextlib.suppress(AttributeError):
            if lent in self._in_use and lent.asked is not None:
                log.warning("A session is given up: the database does not hear it", pid=pid)
                lent.end(f"the database {SILENCE}")

    def _wait_for_standby(self, waits: bool) -> None:
        if waits != self.waits_for_standby:
            log.warning(f"The database {WAITS}" if waits else "The standby confirms again what is written")
        self.waits_for_standby = waits

    def _give_up(self, host: Host | None, words: str) -> None:
        """End all sessions with it."""
        if self.lost_at is None:
            log.warning("The primary is given up", host=str(host or ""), reason=words)
        self._lose(NotPrimary(words) if host is None or len(self.hosts) < 2 else NoPrimary({host: NotPrimary(words)}))
        self._end_sessions(host, words)

    def _end_sessions(self, host: Host | None, words: str) -> None:
        for session in list(self._sessions):
            if session.host == host and not session.is_closed():
                session.end(f"the database {words}")
