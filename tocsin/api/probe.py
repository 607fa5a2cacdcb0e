"""What probes ask and say: their work, held until there is some, and their results. Their tokens open nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import msgspec
from litestar import post

from tocsin.actions import probes as actions
from tocsin.actions.base import Actor, system
from tocsin.api import authentication
from tocsin.api.authentication import unauthorized
from tocsin.api.service import Service
from tocsin.domain import ids, names
from tocsin.domain.errors import invalid_field
from tocsin.domain.incidents import MAX_MESSAGE_LENGTH, Evidence, Severity
from tocsin.domain.monitors import Finding, Problem, Result, Target
from tocsin.domain.resources.network_monitor import RESOURCE as NETWORK_MONITOR
from tocsin.domain.resources.probe import RESOURCE as PROBE
from tocsin.storage.monitoring import probes
from tocsin.storage.monitoring.probe_results import Sent
from tocsin.storage.monitoring.probes import Caller, Check, Work
from tocsin.storage.monitoring.votes import Ballot
from tocsin.storage.postgres.database import transaction

CHECKS = 100
"""Checks in one answer: each may have 30 KB of options."""
RESULTS = 500
RESULTS_LIMIT = 3 * 256 * 1024
"""Bytes of so many; a probe sends at most 512 KiB at once."""
MAX_WAIT = 30
LOOK = 0.5
"""Seconds between two looks while a request is held."""
TWO_WITH_ONE_TOKEN = 1.0
"""Seconds after which a request is answered that another one of the same probe has ended."""
MAX_EVIDENCE = 8_000
"""Characters of each part of what a check saw; longer ones are cut."""
MAX_HEADERS = 100
NO_MONITOR = UUID(int=0)
"""The monitor of a result whose uuid cannot be one."""
EPOCH, MICROSECOND = datetime.fromtimestamp(0, UTC), timedelta(microseconds=1)

_held: dict[tuple[asyncpg.Pool, UUID], asyncio.Event] = {}
"""The request of each probe that is held, and what ends it."""

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Whole = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class WorkAsked(msgspec.Struct):
    """What a probe knows: the `cursor` of the last answer, null for nothing. It waits so many seconds for news."""

    cursor: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    wait: Annotated[int, msgspec.Meta(ge=0, le=MAX_WAIT)] = 0
    version: Annotated[str, msgspec.Meta(max_length=50)] = ""


class TargetShown(msgspec.Struct):
    """What one check requests; `options` are those of its type. `unreadable`: why its secrets cannot be read."""

    url: str
    check_type: str
    timeout: float
    options: dict[str, Any]
    unreadable: str | None


class CheckShown(msgspec.Struct):
    """A monitor that is to be checked every `interval` seconds; `version` is of all this."""

    uuid: str
    version: str
    interval: float
    target: TargetShown


class WorkShown(msgspec.Struct):
    """What is new for the probe: `checks` that are to be made, those that are `gone`, those to make at once (`ask`).

    With `more`, there is more at once with the new `cursor`. Results are numbered from `next_seq`.
    """

    now: str
    cursor: str
    next_seq: int
    more: bool
    checks: list[CheckShown]
    gone: list[str]
    ask: list[str]


class FindingGiven(msgspec.Struct):
    """What a check found beside its verdict."""

    type: Annotated[str, msgspec.Meta(pattern="^tls_expiry$")]
    severity: Severity
    message: Annotated[str, msgspec.Meta(max_length=MAX_MESSAGE_LENGTH)]
    fingerprint: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    details: Annotated[dict[str, Annotated[str, msgspec.Meta(max_length=1_000)]], msgspec.Meta(max_length=20)]


class EvidenceGiven(msgspec.Struct):
    """What a check saw."""

    request: str | None = None
    request_headers: Annotated[dict[str, str], msgspec.Meta(max_length=MAX_HEADERS)] | None = None
    response: str | None = None
    response_headers: Annotated[dict[str, str], msgspec.Meta(max_length=MAX_HEADERS)] | None = None


class ResultGiven(msgspec.Struct):
    """What one check saw: no `problem` if all was well. `at` is when it began, and `round` which one it was, by the
    service's clock.
    """

    seq: Whole
    uuid: Annotated[str, msgspec.Meta(max_length=40)]
    version: Moment
    round: Whole
    at: Moment
    problem: Problem | None = None
    message: str | None = None
    status_code: Annotated[int, msgspec.Meta(ge=0, le=999)] | None = None
    response_ms: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] | None = None
    findings: Annotated[list[FindingGiven], msgspec.Meta(max_length=20)] | None = None
    evidence: EvidenceGiven | None = None


class ResultsGiven(msgspec.Struct):
    results: Annotated[list[ResultGiven], msgspec.Meta(max_length=RESULTS)]


class ResultsTaken(msgspec.Struct):
    """Every result up to the number `accepted` is stored. The monitors that are `gone` are not to be checked like that
    any more.
    """

    accepted: int
    gone: list[str]


@post("/probe/v1/work", summary="Ask for work, as a probe", status_code=200)
async def work(data: WorkAsked, probe: Caller, service: Service) -> WorkShown:
    """Answers at once if there is something new, else when there is, or after `wait` seconds with nothing.

    Only for a probe's own token (`tocsin probe add`). A second request of the same probe ends the first.
    """
    change, asked_after = _cursor(data.cursor)
    async with transaction(service.pool) as tx:
        await actions.hear(tx, _actor(probe), probe, names.line(data.version))
    ended = _hold(service, probe)
    deadline = asyncio.get_running_loop().time() + data.wait
    try:
        while True:
            async with service.pool.acquire() as tx:
                found = await probes.work(tx, service.vault, probe, change, asked_after, CHECKS)
            if found is None:
                raise unauthorized("This probe was revoked")
            left = deadline - asyncio.get_running_loop().time()
            if ended.is_set() and not found.anything:  # two processes with one token are not to take turns at once
                await asyncio.sleep(TWO_WITH_ONE_TOKEN)
            if found.anything or data.cursor is None or left <= 0 or ended.is_set():
                return _shown(found)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), min(LOOK, left))
    finally:
        if _held.get((service.pool, probe.id)) is ended:
            del _held[service.pool, probe.id]


@post("/probe/v1/results", summary="Send results, as a probe", status_code=200, request_max_body_size=RESULTS_LIMIT)
async def results(data: ResultsGiven, probe: Caller, service: Service) -> ResultsTaken:
    """Takes up to 500 results. What has a number up to the last that came is known already, so all can be sent again.

    It is answered once it is committed; 503 means that it should be sent again.
    """
    sent = Sent(probe, [(each.seq, _ballot(probe, each)) for each in data.results])
    taken = await actions.report(service.batches.results, _actor(probe), sent)
    if taken is None:
        raise unauthorized("This probe was revoked")
    gone = [NETWORK_MONITOR.public(each) for each in taken.gone if each != NO_MONITOR]
    unreadable = dict.fromkeys(each.uuid for each in data.results if ids.parse(ids.MONITOR, each.uuid) is None)
    return ResultsTaken(taken.accepted, [*gone, *unreadable])


def close() -> None:
    """Answer what is held, so that no probe keeps the process from ending."""
    for ended in _held.values():
        ended.set()


async def probe_of(authorization: str | None, service: Service) -> Caller:
    """The probe whose token it is. Raises `Refused` (401)."""
    token = authentication.token_in(authorization)
    if token is None:
        raise unauthorized()
    async with service.pool.acquire() as tx:
        found = await actions.identify(tx, system(name="a probe"), service.vault, token)
    if found is None:
        raise unauthorized()
    return found


def _hold(service: Service, probe: Caller) -> asyncio.Event:
    """What ends this request, which ends the one before it."""
    before = _held.get((service.pool, probe.id))
    if before is not None:
        before.set()
    ended = _held[service.pool, probe.id] = asyncio.Event()
    return ended


def _actor(probe: Caller) -> Actor:
    return system(name=PROBE.public(probe.id))


def _cursor(text: str | None) -> tuple[int, datetime]:
    """The last change that the probe knows, and when it was last asked for something."""
    if text is None:
        return 0, EPOCH
    change, _, asked = text.partition(".")
    if not (text.isascii() and change.isdecimal() and asked.isdecimal() and len(change) < 19 and len(asked) < 17):
        raise invalid_field("cursor", "must be the cursor of an answer, or null")
    return int(change), EPOCH + int(asked) * MICROSECOND


def _shown(found: Work) -> WorkShown:
    asked = (found.asked_at - EPOCH) // MICROSECOND
    return WorkShown(
        found.now.isoformat(), f"{found.change}.{asked}", found.last_seq + 1, found.more,
        [_check(each) for each in found.checks], [NETWORK_MONITOR.public(each) for each in found.gone],
        [NETWORK_MONITOR.public(each) for each in found.ask],
    )  # fmt: skip


def _check(each: Check) -> CheckShown:
    target: Target = each.target
    shown = TargetShown(target.url, target.check_type, target.timeout, dict(target.options), target.unreadable)
    return CheckShown(NETWORK_MONITOR.public(each.monitor_id), each.version.isoformat(), each.interval, shown)


def _ballot(probe: Caller, given: ResultGiven) -> Ballot:
    monitor_id = ids.parse(ids.MONITOR, given.uuid) or NO_MONITOR
    message = names.cut(given.message or "", MAX_MESSAGE_LENGTH) if given.problem else None
    findings = None if given.findings is None else [
        Finding(each.type, each.severity, each.message, each.fingerprint, each.details) for each in given.findings
    ]
    result = Result(
        given.problem, message, given.response_ms, given.status_code,
        _evidence(given.evidence) if given.problem and given.evidence else None, findings,
    )  # fmt: skip
    return Ballot(monitor_id, probe.name, given.version, given.round, given.at, result)


def _evidence(given: EvidenceGiven) -> Evidence:
    def cut(text: str | None) -> str | None:
        return None if text is None else names.cut(text, MAX_EVIDENCE)

    def cut_all(headers: dict[str, str] | None) -> dict[str, str] | None:
        return headers and {names.cut(name, 200): names.cut(value, MAX_EVIDENCE) for name, value in headers.items()}

    return Evidence(
        cut(given.request), cut_all(given.request_headers), cut(given.response), cut_all(given.response_headers)
    )


routes: list[Any] = [work, results]
