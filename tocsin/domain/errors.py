"""The one error for refused requests. Raised anywhere, rendered in one place: as JSON, as a page, on a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Detail:
    """One field that was rejected: its path (`settings.webhook_url`) and why."""

    field: str
    message: str


class Refused(Exception):
    """A request that cannot be granted: what is wrong and what to do, for the caller.

    `body` replaces the usual error body where the specification prints another. `keep` says that what was
    recorded before the refusal (a used attempt) must stay: the transaction is committed all the same.
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
    """422 for one field; the message names it, so that it makes sense without the details."""
    return invalid(f"{field} {message}", Detail(field, message))


TOO_LARGE = "The body is too large: send less at once"


def too_large() -> Refused:
    """413, also where not the bytes are too many, but what they contain."""
    return Refused(413, "payload_too_large", TOO_LARGE)


def not_found(noun: str) -> Refused:
    """404: it does not exist, or it belongs to another project; which of the two is not disclosed."""
    return Refused(404, f"{noun}_not_found", f"The specified {noun.replace('_', ' ')} does not exist")


def forbidden_state(message: str) -> Refused:
    """422: the values are fine, but the state of the object forbids it."""
    return Refused(422, "unprocessable_entity", message)


def too_many(message: str, wait: float) -> Refused:
    """429: more attempts than are allowed; the next one is allowed in `wait` seconds."""
    return Refused(429, "too_many_requests", message, headers={"Retry-After": str(math.ceil(wait))})
