"""What probes send: each result is taken once, in the order of its number, and counted as a vote or kept as history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from tocsin.storage.monitoring import votes
from tocsin.storage.monitoring.probes import Caller
from tocsin.storage.monitoring.votes import Ballot
from tocsin.storage.postgres.database import Tx, key

KEPT = timedelta(hours=2)
"""Twice as long as a probe keeps what it cannot send: what is older is no result of a probe of ours."""
MAX_AHEAD = 10_000_000
"""How far the numbers of results may be ahead of the last that came: more than a probe keeps for years."""

LOCK = """
SELECT id, last_seq, clock_timestamp() AS now FROM probes
WHERE id = ANY ($1) AND revoked_at IS NULL ORDER BY id FOR NO KEY UPDATE
"""
ADVANCE = """
UPDATE probes p SET last_seq = g.seq, seen_at = now() FROM unnest($1::uuid[], $2::bigint[]) AS g (id, seq)
WHERE p.id = g.id AND p.id = ANY ($1)
"""


@dataclass(frozen=True, slots=True)
class Sent:
    """What one request of a probe brings: numbers and ballots."""

    probe: Caller
    results: Sequence[tuple[int, Ballot]]


@dataclass(frozen=True, slots=True)
class Taken:
    """The highest number that is known now, and the monitors that this probe no longer checks like that."""

    accepted: int
    gone: Sequence[UUID]


async def take(tx: Tx, given: Sequence[Sent], *, public_url: str) -> list[Taken | None]:
    """Store results of any number of probes in one go. None: the probe was revoked meanwhile."""
    rows = {key(row["id"]): row for row in await tx.fetch(LOCK, [each.probe.id for each in given])}
    last = {id_: row["last_seq"] for id_, row in rows.items()}
    ballots: list[tuple[int, Ballot]] = []
    for number, each in enumerate(given):
        if each.probe.id not in rows:
            continue
        now = rows[each.probe.id]["now"]
        for seq, ballot in sorted(each.results, key=lambda result: result[0]):
            if last[each.probe.id] < seq <= last[each.probe.id] + MAX_AHEAD:
                last[each.probe.id] = seq
                if ballot.at > now - KEPT:
                    ballots.append((number, replace(ballot, at=min(ballot.at, now))))
    became = await votes.record(tx, [ballot for _, ballot in ballots], public_url=public_url)
    await tx.execute(ADVANCE, list(last), list(last.values()))
    gone: list[dict[UUID, None]] = [{} for _ in given]
    for (number, ballot), how in zip(ballots, became, strict=True):
        if how == "gone":
            gone[number][ballot.monitor_id] = None
    return [
        Taken(last[each.probe.id], list(gone[number])) if each.probe.id in last else None
        for number, each in enumerate(given)
    ]
