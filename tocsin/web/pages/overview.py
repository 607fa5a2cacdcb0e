"""The first page: what is wrong, what is silenced, who is on call, what was not delivered, how integrations fare."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from litestar import Response, get

from tocsin.domain import ids, on_call
from tocsin.domain.incidents import DRILL, SEVERITIES
from tocsin.domain.resources.base import Resource
from tocsin.integrations import base
from tocsin.storage.channels import integration_list, integrations
from tocsin.storage.delivery import overview
from tocsin.storage.monitoring import resources
from tocsin.storage.notifying import dependencies, silences
from tocsin.storage.notifying import on_call as schedules
from tocsin.storage.postgres.database import Tx
from tocsin.web import moments
from tocsin.web.on_call import GONE
from tocsin.web.pages.incidents import explained
from tocsin.web.pages.integrations import status_badge
from tocsin.web.pages.replays import address
from tocsin.web.pages.silence import link
from tocsin.web.render import page
from tocsin.web.session import Service, Viewer

MOST = 10
"""Lines of each list."""
LATELY = timedelta(hours=24)
INSTANT = timedelta(microseconds=1)
UNREACHABLE = "unreachable"


@get("/overview", include_in_schema=False)
async def show(viewer: Viewer, service: Service) -> Response[str]:
    now = datetime.now(UTC)
    async with service.pool.acquire() as tx:
        ongoing = await overview.worst(tx, viewer.project_id, limit=MOST)
        counts = await _counts(tx, viewer) if ongoing else Counter[str]()
        behind = await explained(tx, ongoing)
        found = await silences.spans_of_project(tx, viewer.project_id, now, now + INSTANT)
        silent = list({each.silence_id: each for each in found}.values())
        duties = await _duties(tx, service, viewer, now)
        undelivered = await _undelivered(tx, service, viewer, now)
        glances = await integration_list.page(tx, service.vault, viewer.project_id, limit=MOST + 1, offset=0)
        watched = await resources.counts(tx, viewer.project_id)
    return page(
        "overview.html", viewer, title="Overview", ongoing=ongoing, total=sum(counts.values()),
        counts=[(each, counts[each]) for each in SEVERITIES if counts[each]], unreachable=counts[UNREACHABLE],
        drills=counts[DRILL],
        behind=behind,
        silent=[(each.name, link(each.silence_id), each.ends_at) for each in silent[:MOST]],
        more_silent=len(silent) - MOST, duties=duties, undelivered=undelivered,
        fares=[(each, base.display_name(each.integration), status_badge(each)) for each in glances[:MOST]],
        more_integrations=len(glances) > MOST, watched=_in_words(watched), anything=any(watched.values()),
    )  # fmt: skip


async def _counts(tx: Tx, viewer: Viewer) -> Counter[str]:
    """How many incidents are ongoing: by severity, those of what is only `UNREACHABLE`, and drills."""
    counts = Counter(await overview.ongoing_counts(tx, viewer.project_id))
    dependent = await overview.dependent(tx, viewer.project_id)
    why = await dependencies.explanations(tx, {resource for resource, _ in dependent})
    for resource, severity in dependent:
        if resource in why:
            counts[severity] -= 1
            counts[UNREACHABLE] += 1
    return counts


async def _duties(tx: Tx, service: Service, viewer: Viewer, now: datetime) -> list[dict[str, Any]]:
    """Who is on duty for each schedule, and until when."""
    found = dict(list((await schedules.schedules(tx, viewer.project_id)).items())[:MOST])
    on_duty = {key: on_call.on_duty(each, now) for key, each in found.items()}
    named = {*found, *filter(None, on_duty.values())}
    known = await integrations.these(tx, service.vault, viewer.project_id, named)
    names = {each.id: base.display_name(each) for each in known}
    return [
        {
            "name": names[key], "href": _page_of(key), "until": on_call.next_handover(each, now),
            "on_duty": names.get(duty, GONE) if (duty := on_duty[key]) else None,
        }
        for key, each in found.items()
    ]  # fmt: skip


async def _undelivered(tx: Tx, service: Service, viewer: Viewer, now: datetime) -> list[dict[str, Any]]:
    """What was given up lately, by integration, with the way to the log and to sending it again."""
    found = await overview.undelivered(tx, viewer.project_id, now - LATELY, limit=MOST)
    known = await integrations.these(tx, service.vault, viewer.project_id, [each.integration_id for each in found])
    by_key = {each.id: each for each in known}
    rows = []
    for each in found:
        if (integration := by_key.get(each.integration_id)) is None:
            continue
        uuid, since = ids.public(ids.INTEGRATION, integration.id), moments.value(each.first_at, viewer.zone)
        again = viewer.writes and base.of(integration.type).repeatable
        rows.append(
            {
                "name": base.display_name(integration), "times": each.times, "last_at": each.last_at,
                "log": address(uuid, "dead", since, ""),
                "again": address(uuid, "dead", since, "", "replay") if again else "",
            }
        )  # fmt: skip
    return rows


def _page_of(integration: UUID) -> str:
    return f"/integrations/{ids.public(ids.INTEGRATION, integration)}"


def _in_words(watched: dict[Resource, int]) -> str:
    """`12 servers and 1 monitor`"""
    parts = []
    for kind, count in watched.items():
        if count:
            many = f"{count:,}" + ("+" if count == resources.MANY else "")
            parts.append(f"{many} {kind.label.lower()}{'' if count == 1 else 's'}")
    return " and ".join(parts)


routes = [show]
