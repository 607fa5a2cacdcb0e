"""What happens to a delivery: how an attempt can end, and the next step. Pure: no clock, no randomness, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

Event = Literal["opened", "reminder", "acknowledged", "resolved", "test", "notice"]
"""Why a delivery is sent: an incident opened; it is still ongoing; somebody has it; it was resolved; a test that
somebody asked for; or a notice of the service itself to people, such as that an integration was disabled.
"""

ONGOING_EVENTS: frozenset[Event] = frozenset({"opened", "reminder"})
"""Events of an ongoing incident."""

Status = Literal["pending", "sending", "delivered", "dead", "suppressed"]

ATTEMPT_TIMEOUT = 10.0
"""Maximum seconds for one attempt, connecting included."""

RESPONSE_LIMIT = 2048
"""Bytes of a destination's response that are kept on record."""

MAX_RETRY_AFTER = 3600.0
ATTEMPTS_AFTER_REFUSAL = 2


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """The destination has it. `receipt` is what its type wants to keep about it (`IntegrationType.after_attempt`)."""

    status_code: int | None = None
    response: str = ""
    receipt: Mapping[str, Any] | None = None


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The destination does not have it, as far as is known.

    `retry` says whether to retry: `scheduled` (by the retry schedule), `twice` (the destination rejected it: two more
    attempts), `never` (another attempt cannot succeed), `disable` (410 or the like: disable the integration).
    `retry_after` is what the destination asked for, in seconds; `receipt` is as in `Delivered`.
    """

    error: str
    retry: Literal["scheduled", "twice", "never", "disable"] = "scheduled"
    status_code: int | None = None
    response: str = ""
    retry_after: float | None = None
    receipt: Mapping[str, Any] | None = None


class Suppressed(msgspec.Struct, frozen=True, gc=False):
    """Deliberately not sent, with the reason."""

    reason: str


class Interrupted(msgspec.Struct, frozen=True, gc=False):
    """The service itself could not complete the attempt: it says nothing about the destination, and does not count
    against the schedule. The next attempt is `wait` seconds later.
    """

    error: str = "Interrupted: the engine was stopped during this attempt"
    wait: float = 0.0


Outcome = Delivered | Failed | Suppressed | Interrupted


class Retry(msgspec.Struct, frozen=True, gc=False):
    """Retry in `wait` seconds."""

    wait: float


class Finish(msgspec.Struct, frozen=True, gc=False):
    """No more attempts, with the reason; `disable` is why the whole integration is to be disabled."""

    status: Literal["delivered", "dead", "suppressed"]
    reason: str | None = None
    disable: str | None = None


def next_step(outcome: Outcome, failures: int, schedule: Sequence[float], jitter: float) -> Retry | Finish:
    """The next step after an attempt.

    `failures` counts the failed attempts before this one; `jitter` is in [0, 1) and spreads the waits by ±20 %. A wait
    is never shorter than the destination asked for (up to an hour).
    """
    match outcome:
        case Delivered():
            return Finish("delivered")
        case Suppressed(reason):
            return Finish("suppressed", reason)
        case Interrupted():
            return Retry(outcome.wait)
        case Failed(retry="disable"):
            return Finish("dead", outcome.error, disable=outcome.error)
        case Failed(retry="never"):
            return Finish("dead", outcome.error)
    tries = len(schedule) if outcome.retry == "scheduled" else min(len(schedule), ATTEMPTS_AFTER_REFUSAL)
    if failures >= tries:
        return Finish("dead", f"{outcome.error} (after {failures + 1} attempts)")
    wait = schedule[failures] * (0.8 + 0.4 * jitter)
    return Retry(max(wait, min(outcome.retry_after or 0.0, MAX_RETRY_AFTER)))
