"""The one error that callers are refused with. Raised anywhere, rendered once: as JSON, as a page, on a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Detail:
    """One field that was not accepted: its path (`settings.webhook_url`) and why."""

    field: str
    message: str


class Refused(Exception):
    """A request that cannot be granted: what is wrong and what to do, in words for the caller.

    `body` replaces the usual error body where the specification prints another. `keep` says that what was put on
    record on the way to the refusal (a try that was spent) must stay: the transaction is committed all the same.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Sequence[Detail] = (),
        *,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        keep: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = tuple(details)
        self.headers = dict(headers or {})
        self.body = body
        self.keep = keep


def invalid(message: str, *details: Detail) -> Refused:
    """422: values that cannot be accepted. Without details of its own, the message stands alone."""
    return Refused(422, "invalid_request", message, details)


def invalid_field(field: str, message: str) -> Refused:
    """422 for one field; the message names it, so that it can be read without the details."""
    return invalid(f"{field} {message}", Detail(field, message))


TOO_LARGE = "The body is too large: send less at once"


def too_large() -> Refused:
    """413, also where it is not the bytes but what they hold."""
    return Refused(413, "payload_too_large", TOO_LARGE)


def not_found(noun: str) -> Refused:
    """404: it does not exist, or it belongs to another project; which of the two is not disclosed."""
    return Refused(404, f"{noun}_not_found", f"The specified {noun.replace('_', ' ')} does not exist")


def forbidden_state(message: str) -> Refused:
    """422: the values are fine, but the state of the thing forbids it."""
    return Refused(422, "unprocessable_entity", message)


def too_many(message: str, wait: float) -> Refused:
    """429: more tries than are allowed; one more is in `wait` seconds."""
    return Refused(429, "too_many_requests", message, headers={"Retry-After": str(math.ceil(wait))})
