"""What follows from what is known of monitors: incidents that open and end, findings, and whether a monitor flaps."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from tocsin.domain import monitors as domain
from tocsin.domain.flapping import Flapping, announced
from tocsin.domain.incidents import Opened, OpenRequest, ResolveRequest, truncated_message
from tocsin.domain.monitors import Open, Resolve, Result
from tocsin.domain.resources.network_monitor import RESOURCE as NETWORK_MONITOR
from tocsin.storage.delivery import behind, flapping, incidents, openings
from tocsin.storage.monitoring import families, findings
from tocsin.storage.postgres.database import Tx


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of a monitor: the last result, and how many alike came `in_a_row`; with 0, nothing follows.

    `why` is why an incident ends, if not for good checks in a row; `found_elsewhere` are types and fingerprints that
    other places have found.
    """

    monitor_id: UUID
    project_id: UUID
    result: Result
    in_a_row: int
    confirmations: int
    recoveries: int
    why: str | None = None
    found_elsewhere: Set[tuple[str, str]] = frozenset()

    @property
    def resolved_by(self) -> str:
        once = "A check was good again"
        return self.why or (once if self.in_a_row == 1 else f"{self.in_a_row} checks in a row were good")


async def follow(tx: Tx, known: Sequence[Judged], followed: families.Followed, *, public_url: str) -> None:
    """Open and resolve what follows, of monitors whose families were looked after (`families.follow`): of no request,
    though a probe reports by requests, for several places have their part in it.
    """
    requests, closings = [], []
    for each in known:
        found, ongoing = each.result, followed.ongoing[each.monitor_id].keys()
        match domain.judge(each.in_a_row, found.problem, each.confirmations, ongoing, each.recoveries):
            case Open(problem, severity):
                message = truncated_message(found.message or "")
                what = (each.project_id, NETWORK_MONITOR.type, each.monitor_id, problem, message)
                requests.append(OpenRequest(*what, found.evidence, severity, origin=None))
            case Resolve(problems):
                closings += [
                    ResolveRequest(each.project_id, each.monitor_id, type_, each.resolved_by, origin=None)
                    for type_ in problems
                ]
    await flapping.changed(tx, {each.resource_id for each in closings}, went_down=False)
    worse, gone = await _findings(tx, known)
    closings += gone
    if closings:
        await incidents.resolve(tx, closings, followed.others)
    else:
        await behind.lock_deliveries(tx, (), followed.others)
    await behind.well_since_now(tx, followed.well_again)
    if requests:
        await _open(tx, requests, public_url)
    if worse:
        await openings.open(tx, worse, public_url=public_url)


async def _open(tx: Tx, requests: Sequence[OpenRequest], public_url: str) -> None:
    """Open these. Of a monitor that goes down too often, this one says so; later ones are told when it is steady."""
    known = await flapping.lately(tx, {each.resource_id for each in requests}, datetime.now(UTC))
    too_often = {id_: each for id_, each in known.items() if each.too_often}
    announcing = [
        msgspec.structs.replace(each, message=announced(each.message, too_often[each.resource_id].times + 1))
        if each.resource_id in too_often else each
        for each in requests
    ]  # fmt: skip
    opened = await openings.open(tx, announcing, public_url=public_url, raising=False)
    began = {each.incident.resource_id: each.incident for each in opened if isinstance(each, Opened) and each.new}
    await flapping.changed(tx, began.keys() - too_often.keys(), went_down=True)
    await flapping.begin(
        tx,
        {
            id_: Flapping(began[id_].id, began[id_].created_at, each.since, each.times + 1, began[id_].created_at)
            for id_, each in too_often.items()
            if id_ in began and each.since is not None
        },
    )


async def _findings(tx: Tx, known: Sequence[Judged]) -> tuple[list[OpenRequest], list[ResolveRequest]]:
    """What follows from what checks found beside their verdicts. Their rows in `ongoing` are locked already."""
    looked = [each for each in known if each.result.findings is not None]
    if not looked:
        return [], []
    ongoing = await findings.ongoing(tx, {each.monitor_id for each in looked}, domain.FINDINGS)
    opened: list[OpenRequest] = []
    ended: list[ResolveRequest] = []
    for each in looked:
        worse, gone = domain.judge_findings(each.result.findings or (), ongoing[each.monitor_id])
        opened += [findings.opening(each.project_id, each.monitor_id, found) for found in worse]
        for type_, fingerprint in gone:
            if (type_, fingerprint) not in each.found_elsewhere:
                ended.append(ResolveRequest(
                    each.project_id, each.monitor_id, type_, "A check did not find it any more", dedup_key=fingerprint,
                    origin=None,
                ))  # fmt: skip
    return opened, ended
