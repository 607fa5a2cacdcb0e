"""Many monitors behind one parent: what a check costs, and how soon whom is told, beside the same without a parent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from bench.figures import Figure, Goal, at_most, at_most_of_peer, median, percentile
from bench.instance import Tocsin
from bench.port import Port
from bench.receiver import Arrivals
from bench.workshop import Workshop, per_1000, shares
from tocsin.domain.resources.network_monitor import RESOURCE as NETWORK_MONITOR
from tocsin.storage.postgres import embedded

INTERVAL = 3
"""Seconds between two checks of each."""
CONFIRMATIONS = 2
PATIENCE = 90
PARENT = "bench_parent"
WITH, WITHOUT = "with it", "without it"

# As the API writes it, for all children at once.
TIE = (
    "UPDATE network_monitors SET depends_on = jsonb_build_array($2::text) WHERE id <> $1",
    """INSERT INTO dependencies (child_id, parent_id, project_id)
       SELECT id, $1, project_id FROM network_monitors WHERE id <> $1 AND $2::text IS NOT NULL""",
)
UNTIE = (
    "UPDATE network_monitors SET depends_on = '[]' WHERE id <> $1 AND $2::text IS NOT NULL",
    "DELETE FROM dependencies WHERE parent_id = $1 AND $2::text IS NOT NULL",
)
COUNT = "SELECT count(*), clock_timestamp() FROM checks"
DOWN = "SELECT count(*) FROM ongoing"
AGE = "UPDATE incidents SET created_at = created_at - interval '2 hours'"
"""As if the rounds were hours apart: who goes down more than five times in one flaps, and is told of no more."""
QUIET = "SELECT NOT EXISTS (SELECT FROM ongoing) AND NOT EXISTS (SELECT FROM outstanding)"


@dataclass(slots=True)
class Found:
    """What one way of having them has shown, a value for each round."""

    well: list[dict[str, float]] = field(default_factory=list)
    down: list[dict[str, float]] = field(default_factory=list)
    parent_told: list[float] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    children_told: list[list[float]] = field(default_factory=list)


def measure(workshop: Workshop) -> Iterator[Figure]:
    sizes = workshop.sizes
    found = {WITHOUT: Found(), WITH: Found()}
    with ExitStack() as opened:
        router, site = opened.enter_context(Port()), opened.enter_context(Port())
        tocsin = opened.enter_context(workshop.tocsin(servers=0))
        scene = Scene(workshop, tocsin, router, site, sizes.children)
        for number in range(sizes.dependency_rounds):
            for way in (WITHOUT, WITH) if number % 2 == 0 else (WITH, WITHOUT):
                scene.tie(way == WITH)
                scene.round(found[way], sizes.dependency_seconds)
                said = found[way]
                workshop.say(
                    f"{way}: {said.well[-1]['total']:.2f} s per 1,000 checks, {said.down[-1]['total']:.2f} s while all "
                    f"is down; {said.messages[-1]} messages, the parent's after {said.parent_told[-1]:.1f} s; "
                    f"the children alone after {max(said.children_told[-1]):.1f} s"
                )
    yield from _figures(found, sizes.children)


class Scene:
    """The monitors, what they check, and what is told of them."""

    def __init__(self, workshop: Workshop, tocsin: Tocsin, router: Port, site: Port, count: int) -> None:
        self._workshop, self._tocsin, self._router, self._site, self._count = workshop, tocsin, router, site, count
        webhook = tocsin.add_webhook(workshop.receiver.port)
        tocsin.call("POST", f"/api/v1/integrations/{webhook}/attach_all", {})
        self._parent: str = tocsin.call("POST", "/api/v1/network_monitors", _wanted(PARENT, router))["uuid"]
        children = [_wanted(f"bench_child_{number}", site) for number in range(count)]
        workshop.load.send(tocsin.port, tocsin.requests("POST", "/api/v1/network_monitors", children)).must_be(201)

    def tie(self, to_parent: bool) -> None:
        values = NETWORK_MONITOR.key_of(self._parent), self._parent
        for statement in UNTIE + (TIE if to_parent else ()):
            self._ask(statement, *values)

    def round(self, found: Found, seconds: int) -> None:
        """All well; then all of it down; then only the children."""
        found.well.append(self._cost(seconds))
        self._workshop.receiver.reset()
        began = time.monotonic()
        self._router.cut()
        self._site.cut()
        arrived = self._all_told(1 if self._tied else 1 + self._count)
        self._until(DOWN, lambda down: down == 1 + self._count)
        found.down.append(self._cost(seconds))
        arrived = self._workshop.receiver.wait(len(arrived.opened), 1)
        found.parent_told.append(arrived.opened[PARENT] - began)
        found.messages.append(len(arrived.opened))
        self._mend()
        self._workshop.receiver.reset()
        began = time.monotonic()
        self._site.cut()
        arrived = self._all_told(self._count)
        found.children_told.append([at - began for at in arrived.opened.values()])
        self._mend()

    @property
    def _tied(self) -> bool:
        return bool(self._ask("SELECT EXISTS (SELECT FROM dependencies)")[0])

    def _all_told(self, count: int) -> Arrivals:
        arrived = self._workshop.receiver.wait(count, PATIENCE)
        if len(arrived.opened) < count:
            raise RuntimeError(f"{len(arrived.opened)} of {count} were told within {PATIENCE} s")
        return arrived

    def _mend(self) -> None:
        self._router.cut()
        self._site.cut()
        self._router.mend()
        self._site.mend()
        self._until(QUIET, bool)
        self._ask(AGE)

    def _cost(self, seconds: int) -> dict[str, float]:
        """CPU seconds per 1,000 checks."""
        before, had = self._tocsin.cpu(), self._ask(COUNT)
        time.sleep(seconds)
        after, has = self._tocsin.cpu(), self._ask(COUNT)
        return per_1000(before, after, has[0] - had[0])

    def _until(self, question: str, enough: Callable[[Any], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not enough(answer := self._ask(question)[0]):
            if time.monotonic() > deadline:
                raise RuntimeError(f"after {PATIENCE} s still {answer}: {question}")
            time.sleep(0.2)

    def _ask(self, statement: str, *values: object) -> Any:
        async def ask() -> Any:
            connection = await asyncpg.connect(embedded.dsn_of(self._tocsin.folder))
            try:
                return await connection.fetchrow(statement, *values)
            finally:
                await connection.close()

        return asyncio.run(ask())


def _wanted(name: str, port: Port) -> dict[str, object]:
    settings = {"name": name, "url": f"tcp://127.0.0.1:{port.number}", "check_type": "tcp", "interval": INTERVAL}
    return {"network_monitor": {**settings, "confirmations": CONFIRMATIONS, "timeout": 2}}


def _figures(found: dict[str, Found], count: int) -> Iterator[Figure]:
    ours, theirs = found[WITH], found[WITHOUT]
    behind = f"{count:,} monitors behind one parent"
    yield _cpu(f"CPU per 1,000 checks, {behind}, all well", ours.well, theirs.well)
    yield _cpu(f"CPU per 1,000 checks, {behind}, all down", ours.down, theirs.down)
    later = [one - other for one, other in zip(ours.parent_told, theirs.parent_told, strict=True)]
    yield _seconds("the parent told of later than without", later, at_most(2))
    yield Figure("messages when all are down", max(ours.messages), "", goal=at_most(1), peer=median(theirs.messages),
                 peer_name="without a parent")  # fmt: skip
    lasts = [[max(each) for each in one.children_told] for one in (ours, theirs)]
    halves = [[percentile(each, 0.5) for each in one.children_told] for one in (ours, theirs)]
    for which, (with_, without) in (("last", lasts), ("median", halves)):
        yield _seconds(
            f"the {which} child told of later than without, its parent well",
            [one - other for one, other in zip(with_, without, strict=True)], at_most(2),
        )  # fmt: skip


def _cpu(name: str, ours: Sequence[dict[str, float]], theirs: Sequence[dict[str, float]]) -> Figure:
    totals, others = tuple(each["total"] for each in ours), tuple(each["total"] for each in theirs)
    return Figure(
        name, median(totals), "s", note=shares(ours), peer=median(others), peer_name="without a parent",
        goal=at_most_of_peer(1.1), rounds=totals, peer_rounds=others,
    )  # fmt: skip


def _seconds(name: str, rounds: Sequence[float], goal: Goal) -> Figure:
    return Figure(name, median(rounds), "s", goal=goal, rounds=tuple(rounds))
