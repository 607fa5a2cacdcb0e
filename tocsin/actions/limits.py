"""Rate limits, taken before the act: each attempt counts, whatever its outcome."""

from __future__ import annotations

import math

from tocsin.actions.base import EVERYBODY, Actor, unrecorded
from tocsin.domain.errors import Refused, too_many
from tocsin.storage.accounts import throttle
from tocsin.storage.accounts.throttle import Limit
from tocsin.storage.postgres.database import Tx

TOO_MANY = "Too many attempts. Try again in {minutes} min"


@unrecorded("a try changes nothing", by=EVERYBODY)
async def take(tx: Tx, actor: Actor, subject: str, limit: Limit, words: str) -> None:
    """Count one more attempt for `subject`. Raises `Refused` (429), whose `words` may name `minutes` or `seconds`."""
    if wait := await throttle.take(tx, subject, limit):
        raise _refused(words, wait)


@unrecorded("a try changes nothing", by=EVERYBODY)
async def allows(tx: Tx, actor: Actor, subject: str, limit: Limit) -> bool:
    """As `take`, for what is skipped rather than refused."""
    return not await throttle.take(tx, subject, limit)


def _refused(words: str, wait: float) -> Refused:
    return too_many(words.format(minutes=math.ceil(wait / 60), seconds=math.ceil(wait)), wait)
