"""What a result says to those above and below: parents are asked, children are decided again and counted anew."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from tocsin.domain.dependencies import REACHABILITY
from tocsin.domain.incidents import Severity
from tocsin.storage.delivery import behind
from tocsin.storage.delivery.behind import Others
from tocsin.storage.monitoring import places
from tocsin.storage.notifying import dependencies
from tocsin.storage.notifying.dependencies import ParentState
from tocsin.storage.postgres.database import Tx

PACE = 1
"""Seconds from a parent's last result to the next check that a child may ask for, however many ask."""
ANSWER_BY = 30
"""Seconds after which a parent that was asked and has not answered is asked again."""
LOOKING_BACK = 600
"""Seconds of failed checks at most that a parent explains afterwards."""

# A parent whose row is locked is being claimed or recorded at this moment: that is the answer.
ASK = f"""
{behind.UP.format(children="$1::uuid[]")}, chosen AS MATERIALIZED (
    SELECT s.monitor_id FROM up CROSS JOIN LATERAL (
        SELECT monitor_id FROM monitor_states
        WHERE monitor_id = up.parent_id AND isfinite(due_at)
          AND (last_result_at IS NULL OR last_result_at < now())
          AND (asked_at IS NULL OR asked_at <= last_result_at OR asked_at < now() - interval '{ANSWER_BY} s')
        FOR UPDATE SKIP LOCKED
    ) s
), elsewhere AS (
    UPDATE monitor_places SET asked_at = now() WHERE monitor_id = ANY (ARRAY(SELECT monitor_id FROM chosen))
)
UPDATE monitor_states SET asked_at = now(), due_at = CASE
    WHEN due_at = {places.NOT_HERE} THEN due_at ELSE greatest(now(), last_result_at + interval '{PACE} s')
END
WHERE monitor_id = ANY (ARRAY(SELECT monitor_id FROM chosen))
"""

EXPLAIN = f"""
UPDATE checks SET unreachable = true
FROM (
    SELECT greatest(now() - interval '{LOOKING_BACK} s', (
        SELECT min(good.at) FROM unnest($2::uuid[]) AS p (id) CROSS JOIN LATERAL (
            SELECT max(at) AS at FROM checks
            WHERE monitor_id = p.id AND ok AND at > now() - interval '{LOOKING_BACK} s' AND at <= now()
            UNION ALL
            SELECT seen_at FROM server_states WHERE server_id = p.id
            UNION ALL
            SELECT last_ping_at FROM heartbeat_states WHERE heartbeat_id = p.id
        ) good
    )) AS at
) since
WHERE monitor_id = ANY ($1) AND checks.at > since.at AND checks.at > now() - interval '{LOOKING_BACK} s'
  AND checks.at <= now() AND NOT ok AND NOT unreachable AND problem = ANY ($3)
"""


@dataclass(frozen=True, slots=True)
class Counted:
    """A result that counts: the problem before and now, and whether a child had asked for it.

    `to_confirm`: it is one of the failures that an incident waits for.
    """

    monitor_id: UUID
    before: str | None
    problem: str | None
    to_confirm: bool
    asked: bool

    @property
    def went_down(self) -> bool:
        return self.problem in REACHABILITY and self.before not in REACHABILITY

    @property
    def came_back(self) -> bool:
        return self.problem not in REACHABILITY and self.before in REACHABILITY


class Followed(NamedTuple):
    """What follows from results: who is told of these `others` is to be decided anew, those `well_again` are.

    `ongoing` are types and severities of what is ongoing at the monitors; it is locked until the transaction ends.
    """

    ongoing: Mapping[UUID, Mapping[str, Severity]]
    others: Others
    well_again: Collection[UUID]


async def follow(tx: Tx, counted: Sequence[Counted], parents: Mapping[UUID, ParentState]) -> Followed:
    """What follows for others from these results; `parents` is how those of the failed ones were before."""
    lasting = await behind.hold(tx, [each.monitor_id for each in counted])
    well_again = [
        each.monitor_id for each in counted
        if each.came_back
        or (each.problem not in REACHABILITY and not REACHABILITY.isdisjoint(lasting.types[each.monitor_id]))
    ]  # fmt: skip
    went_down = [each.monitor_id for each in counted if each.went_down]
    unexplained = [each for each in counted if each.monitor_id in parents and not parents[each.monitor_id].explained_by]
    await ask_parents(tx, [each.monitor_id for each in unexplained if each.to_confirm])
    await _explain(tx, went_down)
    others = Others(
        frozenset(each.monitor_id for each in unexplained if not parents[each.monitor_id].rechecked),
        frozenset([*went_down, *well_again, *(each.monitor_id for each in counted if each.asked)]),
    )
    return Followed(lasting.types, others, well_again)


async def ask_parents(tx: Tx, children: Collection[UUID]) -> None:
    """Make the monitors that these depend on due at once, all the way up; once a second at most, whoever asks."""
    if children:
        await tx.execute(ASK, list(children))


async def explain(tx: Tx, down: Collection[UUID]) -> None:
    """These are down as of now: decide again about those behind them, and take their failed checks out of their uptime.

    Those since the last sign of life of what is down: before it, they had another reason.
    """
    await behind.reconsider(tx, down)
    await _explain(tx, down)


async def _explain(tx: Tx, down: Collection[UUID]) -> None:
    children = await behind.behind(tx, down)
    if children:
        states = await dependencies.states(tx, children)
        explained = [child for child, state in states.items() if state.explained_by]
        await tx.execute(EXPLAIN, explained, list(down), list(REACHABILITY))
