"""What places see of monitors that have locations, and what follows from what most of them see.

A monitor's row in `monitor_states` is locked first, so its votes are counted one after the other, wherever they come
from; there it has what the majority sees, so that those who depend on it need not know of places.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import msgspec

from tocsin.domain import places as domain
from tocsin.domain.dependencies import REACHABILITY, read
from tocsin.domain.monitors import Result
from tocsin.domain.places import HERE, Down, Rules, Up, Vote
from tocsin.storage.monitoring import families, places, verdicts
from tocsin.storage.notifying import dependencies
from tocsin.storage.notifying.dependencies import ParentState
from tocsin.storage.postgres.database import Tx, key

if TYPE_CHECKING:
    from asyncpg import Record

Became = Literal["vote", "history", "gone"]
"""`history`: it is stored, and decides nothing; `gone`: that place does not check this monitor, or not in this version.
"""

AHEAD = timedelta(seconds=5)
"""How far a probe's idea of our time may be ahead of it, so that its check counts for the next round."""

LOCK = "SELECT monitor_id FROM monitor_states WHERE monitor_id = ANY ($1) ORDER BY monitor_id FOR UPDATE"

MONITORS = """
SELECT m.id, m.project_id, m.updated_at, m.interval, m.timeout, m.confirmations, m.recoveries, m.locations,
       m.depends_on, s.last_problem, isfinite(s.due_at) AS active, clock_timestamp() AS now,
       s.asked_at > coalesce(s.last_result_at, '-infinity') AS asked,
       EXISTS (SELECT FROM ongoing WHERE resource_id = g.id) AS ongoing
FROM unnest($1::uuid[]) AS g (id)
CROSS JOIN LATERAL (SELECT * FROM network_monitors WHERE id = g.id LIMIT 1) m
CROSS JOIN LATERAL (SELECT * FROM monitor_states WHERE monitor_id = g.id LIMIT 1) s
WHERE m.locations IS NOT NULL
"""

PLACES = """
SELECT p.* FROM unnest($1::uuid[]) AS g (id)
CROSS JOIN LATERAL (SELECT * FROM monitor_places WHERE monitor_id = g.id OFFSET 0) p
"""

VOTE = """
UPDATE monitor_places p
SET round = g.round, at = g.at, heard_at = g.heard_at, failures = g.failures, successes = g.successes,
    problem = g.problem, message = g.message, status_code = g.status_code,
    response_ms = coalesce(g.response_ms, p.response_ms), found = g.found::jsonb
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::int[], $7::int[],
            $8::text[], $9::text[], $10::int[], $11::float8[], $12::text[])
    AS g (monitor_id, place, round, at, heard_at, failures, successes, problem, message, status_code, response_ms,
          found)
WHERE p.monitor_id = g.monitor_id AND p.place = g.place AND p.monitor_id = ANY ($1)
"""

# Where there is no majority, it stays as it was. A claim that is answered is returned.
SETTLE = """
UPDATE monitor_states s
SET failures = coalesce(g.failures, s.failures), successes = coalesce(g.successes, s.successes),
    last_check_at = greatest(s.last_check_at, g.at),
    last_ok = CASE WHEN g.decided THEN g.problem IS NULL ELSE s.last_ok END,
    last_problem = CASE WHEN g.decided THEN g.problem ELSE s.last_problem END,
    last_result_at = g.now, last_response_ms = coalesce(g.response_ms, s.last_response_ms),
    due_at = CASE WHEN g.here_at_once THEN least(s.due_at, g.now) ELSE greatest(s.due_at, g.next_at) END
FROM unnest($1::uuid[], $2::int[], $3::int[], $4::timestamptz[], $5::bool[], $6::text[], $7::timestamptz[],
            $8::float8[], $9::bool[], $10::timestamptz[])
    AS g (id, failures, successes, at, decided, problem, now, response_ms, here_at_once, next_at)
WHERE s.monitor_id = g.id AND s.monitor_id = ANY ($1)
"""

STORE = """
INSERT INTO checks (monitor_id, at, ok, problem, message, status_code, response_ms, unreachable, place)
SELECT id, at, problem IS NULL, problem, message, status_code, response_ms, outside, place
FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::int[], $6::float8[], $7::bool[], $8::text[])
    AS g (id, at, problem, message, status_code, response_ms, outside, place)
"""


@dataclass(frozen=True, slots=True)
class Ballot:
    """What a place saw in a check that began `at`, by the service's clock.

    `version` is of what was checked: the place's, or here the monitor's. `next_at`: when it is due here again.
    """

    monitor_id: UUID
    place: str
    version: datetime
    round: int
    at: datetime
    result: Result
    next_at: datetime | None = None


@dataclass(slots=True)
class _Place:
    """A place of a monitor, as it is and becomes."""

    row: Record
    round: int | None
    at: datetime | None
    heard_at: datetime | None
    failures: int
    successes: int
    found: list[list[str]]
    result: Result

    def vote_is_ahead(self, now: datetime) -> bool:
        return self.heard_at is not None and self.heard_at > now

    @property
    def vote(self) -> Vote | None:
        if self.heard_at is None:
            return None
        place, seen = self.row["place"], self.result
        return Vote(place, self.heard_at, self.failures, self.successes, seen.problem, seen.message)


@dataclass(slots=True)
class _Monitor:
    """A monitor with its places in the order of its locations, and its ballots."""

    row: Record
    places: dict[str, _Place]
    counted: list[Ballot] = field(default_factory=list)
    first_failure: bool = False

    @property
    def rules(self) -> Rules:
        row = self.row
        return Rules(
            len(self.places), row["interval"], row["timeout"], row["confirmations"], row["recoveries"]
        )

    @property
    def votes(self) -> list[Vote]:
        return [vote for each in self.places.values() if (vote := each.vote) is not None]

    @property
    def majority(self) -> Down | Up | None:
        return domain.majority(self.votes, self.rules, self.row["now"])

    def take(self, ballot: Ballot) -> Became:
        """Count it, if it says something about now."""
        row, now = self.row, self.row["now"]
        place = self.places.get(ballot.place)
        if place is None:
            return "gone"
        expected = row["updated_at"] if ballot.place == HERE else place.row["version"]
        if ballot.version != expected or not row["active"]:
            return "gone"
        if domain.is_late(ballot.at, row["interval"], now) or not self._is_newer(place, ballot):
            return "history"
        failed = not ballot.result.ok
        self.first_failure |= failed and place.failures == 0
        place.failures, place.successes = (place.failures + 1, 0) if failed else (0, place.successes + 1)
        place.round, place.at, place.heard_at, place.result = ballot.round, ballot.at, now, ballot.result
        if ballot.result.findings is not None:
            place.found = [[each.type, each.fingerprint] for each in ballot.result.findings]
        self.counted.append(ballot)
        return "vote"

    def _is_newer(self, place: _Place, ballot: Ballot) -> bool:
        """Of a later round; or a later check of this one, where we make it ourselves, or have asked for it.

        What came at a time that is yet to come was seen before our clock was put back.
        """
        now, interval = self.row["now"], self.row["interval"]
        if ballot.round > domain.round_at(now + AHEAD, interval):
            return False
        if place.round is None or place.at is None or ballot.round > place.round or place.vote_is_ahead(now):
            return True
        asked = place.row["asked_at"]
        again = place.heard_at is None or (asked is not None and asked > place.heard_at)
        return ballot.at > place.at and (ballot.place == HERE or again)

    @property
    def to_ask(self) -> list[str]:
        """After a first failure: those who did not see it, and have not just said so."""
        now = self.row["now"]
        if not self.first_failure:
            return []
        return [name for name, each in self.places.items() if each.failures == 0 and each.heard_at != now]

    def judged(self, found: Down | Up | None) -> verdicts.Judged:
        """What is known of it now, for what follows."""
        last = self.counted[-1].result
        findings = [each.result.findings for each in self.counted if each.result.findings is not None]
        result = Result(findings=[one for some in findings for one in some] if findings else None)
        if isinstance(found, Down):
            speaker = found.speaker
            heard = [each.result for each in self.counted if each.result.problem == speaker.problem]
            evidence = heard[-1].evidence if heard else last.evidence
            seen = self.places[speaker.place].result
            result = replace(result, problem=seen.problem, message=found.message, evidence=evidence)
        why = None
        if isinstance(found, Up) and (found.places > 1 or found.voices[0].place != HERE):
            why = f"{found.seen_from}: checks were good again"
        alive = {each.place for each in domain.living(self.votes, self.rules, self.row["now"])}
        elsewhere = frozenset(
            (type_, fingerprint) for name, each in self.places.items() if name in alive
            for type_, fingerprint in each.found
        )  # fmt: skip
        return verdicts.Judged(
            key(self.row["id"]), key(self.row["project_id"]), result, found.in_a_row if found else 0,
            self.row["confirmations"], self.row["recoveries"], why, elsewhere,
        )  # fmt: skip


async def record(tx: Tx, ballots: Sequence[Ballot], *, public_url: str) -> list[Became]:
    """Store what was seen, count what is a vote, and open or resolve what most of the living places see.

    A place that sees a first failure makes the others look at once. Ballots of one monitor are taken in order.
    """
    if not ballots:
        return []
    monitors = await _locked(tx, {each.monitor_id for each in ballots})
    became: list[Became] = [
        monitors[each.monitor_id].take(each) if each.monitor_id in monitors else "gone" for each in ballots
    ]
    counted = [each for each in monitors.values() if each.counted]
    majorities = {key(each.row["id"]): each.majority for each in counted}
    parents = await _parents(tx, counted, majorities)
    await _write(tx, counted, majorities)
    await _store(tx, ballots, became, monitors, majorities, parents)
    await places.ask(tx, [(key(each.row["id"]), name, each.row["now"]) for each in counted for name in each.to_ask])
    concerned = [each for each in counted if _matters(each, majorities[key(each.row["id"])])]
    if concerned:
        judged = [each.judged(majorities[key(each.row["id"])]) for each in concerned]
        heard = [_counted(each, one) for each, one in zip(concerned, judged, strict=True)]
        followed = await families.follow(tx, heard, parents)
        await verdicts.follow(tx, judged, followed, public_url=public_url)
    return became


async def _locked(tx: Tx, monitor_ids: Collection[UUID]) -> dict[UUID, _Monitor]:
    ids = sorted(monitor_ids)
    await tx.execute(LOCK, ids)
    of: dict[UUID, dict[str, _Place]] = {each: {} for each in ids}
    for row in await tx.fetch(PLACES, ids):
        of[key(row["monitor_id"])][row["place"]] = _Place(
            row, row["round"], row["at"], row["heard_at"], row["failures"], row["successes"], row["found"],
            Result(row["problem"], row["message"], row["response_ms"], row["status_code"]),
        )  # fmt: skip
    found = {}
    for row in await tx.fetch(MONITORS, ids):
        there = of[key(row["id"])]
        found[key(row["id"])] = _Monitor(row, {name: there[name] for name in row["locations"] if name in there})
    return found


async def _parents(
    tx: Tx, counted: Sequence[_Monitor], majorities: Mapping[UUID, Down | Up | None]
) -> Mapping[UUID, ParentState]:
    """How those above the ones that cannot be reached are, before these votes."""
    failed = {}
    for each in counted:
        found, above = majorities[key(each.row["id"])], read(each.row["depends_on"])
        if above and isinstance(found, Down) and found.speaker.problem in REACHABILITY:
            failed[key(each.row["id"])] = above
    return await dependencies.states_of_failed(tx, failed) if failed else {}


async def _write(
    tx: Tx, counted: Sequence[_Monitor], majorities: Mapping[UUID, Down | Up | None]
) -> None:
    """The votes, and what the majorities come to."""
    if not counted:
        return
    voted = [
        (key(each.row["id"]), name, place.round, place.at, place.heard_at, place.failures, place.successes,
         place.result.problem, place.result.message, place.result.status_code, place.result.response_ms,
         msgspec.json.encode(place.found).decode())
        for each in counted for name, place in each.places.items() if place.heard_at == each.row["now"]
    ]  # fmt: skip
    await tx.execute(VOTE, *map(list, zip(*voted, strict=True)))
    settled = []
    for each in counted:
        found, last = majorities[key(each.row["id"])], each.counted[-1]
        down, up = isinstance(found, Down), isinstance(found, Up)
        times = [one.result.response_ms for one in each.counted if one.result.response_ms is not None]
        nexts = [one.next_at for one in each.counted if one.next_at is not None]
        settled.append((
            key(each.row["id"]), found.in_a_row if found and down else 0 if up else None,
            found.in_a_row if found and up else 0 if down else None, last.at, found is not None,
            found.speaker.problem if isinstance(found, Down) else None, each.row["now"], times[-1] if times else None,
            HERE in each.to_ask, nexts[-1] if nexts else None,
        ))  # fmt: skip
    await tx.execute(SETTLE, *map(list, zip(*settled, strict=True)))


async def _store(
    tx: Tx, ballots: Sequence[Ballot], became: Sequence[Became], monitors: Mapping[UUID, _Monitor],
    majorities: Mapping[UUID, Down | Up | None], parents: Mapping[UUID, ParentState],
) -> None:  # fmt: skip
    """The checks, of whatever version. A failure that most do not see, or that a parent explains, is no downtime."""
    rows = []
    for each, how in zip(ballots, became, strict=True):
        monitor = monitors.get(each.monitor_id)
        if monitor is None or each.place not in monitor.places:
            continue
        outvoted = how == "vote" and not isinstance(majorities[each.monitor_id], Down) and len(monitor.places) > 1
        explained = each.monitor_id in parents and bool(parents[each.monitor_id].explained_by)
        result = each.result
        rows.append((
            each.monitor_id, each.at, result.problem, result.message, result.status_code, result.response_ms,
            not result.ok and (outvoted or explained), None if each.place == HERE else each.place,
        ))  # fmt: skip
    if rows:
        await tx.execute(STORE, *map(list, zip(*rows, strict=True)))


def _matters(each: _Monitor, found: Down | Up | None) -> bool:
    """Whether anything can follow from its votes."""
    row = each.row
    beside = any(one.result.findings for one in each.counted)
    return bool(isinstance(found, Down) or row["last_problem"] or row["asked"] or row["ongoing"] or beside)


def _counted(each: _Monitor, judged: verdicts.Judged) -> families.Counted:
    before = each.row["last_problem"]
    problem = judged.result.problem if judged.in_a_row else before
    return families.Counted(key(each.row["id"]), before, problem, not each.row["ongoing"], bool(each.row["asked"]))
