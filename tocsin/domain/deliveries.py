"""What becomes of a delivery: how a try can end, and what follows from it. Pure: no clock, no chance, no wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

Event = Literal["opened", "reminder", "resolved", "test", "notice"]
"""What a delivery is for: an incident's beginning; that it still lasts after its snooze; its end; a test that somebody
asked for; or what the service itself tells people, such as that an integration was disabled.
"""

ONGOING_EVENTS: frozenset[Event] = frozenset({"opened", "reminder"})
"""Events that say that an incident lasts."""

Status = Literal["pending", "sending", "delivered", "dead", "suppressed"]

ATTEMPT_TIMEOUT = 10.0
"""Seconds that one try may take, connecting included."""

RESPONSE_LIMIT = 2048
"""Bytes of a destination's answer that are kept on record."""

MAX_RETRY_AFTER = 3600.0
ATTEMPTS_AFTER_REFUSAL = 2


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """The destination has it. `receipt` is what its type wants to remember of it (`IntegrationType.settle`)."""

    status_code: int | None = None
    response: str = ""
    receipt: Mapping[str, Any] | None = None


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The destination does not have it, as far as is known.

    `retry` says what could help: `wait` (try on by the schedule), `doubt` (the destination refuses it: two more tries),
    `nothing` (a further try cannot succeed), `gone` (the destination wants no more, ever: disable the integration).
    `retry_after` is what the destination asked for, in seconds; `receipt` is as in `Delivered`.
    """

    error: str
    retry: Literal["scheduled", "limited", "never", "disable"] = "scheduled"
    status_code: int | None = None
    response: str = ""
    retry_after: float | None = None
    receipt: Mapping[str, Any] | None = None


class Suppressed(msgspec.Struct, frozen=True, gc=False):
    """It was decided not to send, and why."""

    reason: str


class Interrupted(msgspec.Struct, frozen=True, gc=False):
    """The service itself could not go on with the try: nothing is known of the destination, and it does not count
    against the schedule. The next try is `wait` seconds later.
    """

    error: str = "Interrupted: the engine was stopped during this try"
    wait: float = 0.0


Outcome = Delivered | Failed | Suppressed | Interrupted


class Retry(msgspec.Struct, frozen=True, gc=False):
    """Try again in `wait` seconds."""

    wait: float


class Finish(msgspec.Struct, frozen=True, gc=False):
    """The end, with its reason; `disable` is why the whole integration shall get nothing more."""

    status: Literal["delivered", "dead", "suppressed"]
    reason: str | None = None
    disable: str | None = None


def next_step(outcome: Outcome, failures: int, schedule: Sequence[float], jitter: float) -> Retry | Finish:
    """What follows a try.

    `failures` counts the failed tries before this one; `jitter` is in [0, 1) and spreads the waits by ±20 %. A wait is
    never shorter than the destination asked for (up to an hour).
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
        return Finish("dead", f"{outcome.error} (after {failures + 1} tries)")
    wait = schedule[failures] * (0.8 + 0.4 * jitter)
    return Retry(max(wait, min(outcome.retry_after or 0.0, MAX_RETRY_AFTER)))
