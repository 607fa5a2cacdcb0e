"""What can be followed of each attempt: a line of the log, with the request that its incident comes from; and spans,
where traces are taken.
"""

from __future__ import annotations

import logging
from datetime import timedelta

import structlog

from tocsin.domain import ids, requests, traces
from tocsin.domain.deliveries import Finish
from tocsin.domain.traces import SPAN_BITS, Position
from tocsin.storage.delivery.leases import AttemptResult, Recorded
from tocsin.storage.delivery.queue import Job
from tocsin.transports import tracing

log = structlog.get_logger(__name__)


def everything() -> bool:
    """Whether every attempt is followed, not only those that went wrong."""
    return tracing.on() or bool(log.is_enabled_for(logging.DEBUG))


def follow(job: Job, kind: str, result: AttemptResult, recorded: Recorded) -> None:
    """Call this when the result of an attempt is on record."""
    _say(job, kind, result)
    if tracing.on():
        _note(job, kind, result, recorded)


def _say(job: Job, kind: str, result: AttemptResult) -> None:
    """One line: of what is lost a warning, of a first failure and of what arrived after one an information.

    Nothing that a destination said stands in it, which may be anything; that is in the delivery log.
    """
    then, attempt = result.next_step, result.attempt_record
    about = {
        "delivery": ids.public(ids.DELIVERY, job.id), "integration": ids.public(ids.INTEGRATION, job.integration_id),
        "type": kind, "notification": job.event, "attempt": job.attempt, "ms": attempt.duration_ms,
    }  # fmt: skip
    if job.content.incident_id is not None:
        about["incident"] = ids.public(ids.INCIDENT, job.content.incident_id)
    if attempt.status_code is not None:
        about["status"] = attempt.status_code
    if isinstance(then, Finish):
        if then.status == "delivered":
            level = logging.INFO if job.failures else logging.DEBUG
            log.log(level, "Delivered", **about)
        elif then.status == "dead":
            log.warning("Could not be delivered", **about)
        else:
            log.debug("Not sent", **about)
    else:
        first = attempt.outcome == "failed" and not job.failures
        level = logging.INFO if first else logging.DEBUG
        about |= {"outcome": attempt.outcome, "again_in": round(then.wait, 1)}
        log.log(level, "An attempt failed; it is repeated", **about)


def _note(job: Job, kind: str, result: AttemptResult, recorded: Recorded) -> None:
    """A span of the attempt; and of the delivery when it has ended, from when it was due, below what it comes from.

    Attempts are made by several processes, so a delivery's position follows from its key. What no request has caused
    is a trace of its own: of the incident, if there is one. Neither an address nor what was answered is an attribute.
    """
    above, number = traces.read(requests.trace_of(job.origin)), job.id.int & (1 << SPAN_BITS) - 1
    if above is None:
        own = tracing.root((job.content.incident_id or job.id).int, number)
    else:
        own = Position(above.trace_id, number, above.sampled)
    attempt, then = result.attempt_record, result.next_step
    about: dict[str, str | int | float | bool] = {
        "tocsin.delivery.uuid": ids.public(ids.DELIVERY, job.id),
        "tocsin.integration.uuid": ids.public(ids.INTEGRATION, job.integration_id),
        "tocsin.integration.type": kind,
        "tocsin.notification": job.event,
    }
    if job.content.incident_id is not None:
        about["tocsin.incident.uuid"] = ids.public(ids.INCIDENT, job.content.incident_id)
    if (request_id := requests.id_of(job.origin)) is not None:
        about["tocsin.request_id"] = request_id
    of_attempt = {**about, "tocsin.attempt": job.attempt, "tocsin.outcome": attempt.outcome}
    if attempt.status_code is not None:
        of_attempt["http.response.status_code"] = attempt.status_code
    tracing.note(
        "attempt", "client", of_attempt, began=attempt.started_at,
        ended=attempt.started_at + timedelta(milliseconds=attempt.duration_ms or 0), parent=own,
        failed=str(attempt.status_code or attempt.outcome) if attempt.outcome in ("failed", "interrupted") else None,
    )  # fmt: skip
    if recorded.finished_at is not None and isinstance(then, Finish):
        tracing.note(
            "delivery", "consumer", {**about, "tocsin.attempts": job.attempt, "tocsin.status": then.status},
            began=job.created_at, ended=recorded.finished_at, parent=above, own=own,
            failed="dead" if then.status == "dead" else None,
        )  # fmt: skip
