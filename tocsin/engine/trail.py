"""What can be followed of each attempt: a line of the log, with the request that its incident comes from."""

from __future__ import annotations

import logging

import structlog

from tocsin.domain import ids
from tocsin.domain.deliveries import Finish
from tocsin.storage.delivery.leases import AttemptResult
from tocsin.storage.delivery.queue import Job

log = structlog.get_logger(__name__)


def says_all() -> bool:
    """Whether every attempt has a line, not only those that went wrong."""
    return bool(log.is_enabled_for(logging.DEBUG))


def say(job: Job, kind: str, result: AttemptResult) -> None:
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
