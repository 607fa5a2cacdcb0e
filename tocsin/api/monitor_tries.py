"""Trying a check before its monitor exists: its whole answer, nothing saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from litestar import post

from tocsin.actions import monitor_tries, monitors
from tocsin.actions.base import Actor
from tocsin.api.network_monitors import MonitorGiven
from tocsin.api.service import Service
from tocsin.domain.incidents import Evidence, Severity
from tocsin.domain.monitors import Problem, Result
from tocsin.storage.postgres.database import transaction


class FindingShown(msgspec.Struct):
    """What is found beside the verdict, and would be an incident of its own: a certificate that ends soon."""

    type: Literal["tls_expiry"]
    severity: Severity
    message: str
    details: Mapping[str, str]


class EvidenceShown(msgspec.Struct):
    """What was asked, and what came back. Secret values are masked."""

    request: str | None
    request_headers: Mapping[str, str] | None
    response: str | None
    response_headers: Mapping[str, str] | None


class Tried(msgspec.Struct):
    """`problem` is the type of incident that such a check would lead to, null if it is good; `summary` says it all in
    a line. `body` is the start of the answer as text, where there is one.
    """

    ok: bool
    summary: str
    problem: Problem | None
    message: str | None
    response_ms: float | None
    status_code: int | None
    evidence: EvidenceShown
    body: str | None
    findings: list[FindingShown]


@post("/api/v1/network_monitors/try", summary="Try a check", status_code=200)
async def try_(data: MonitorGiven, caller: Actor, service: Service) -> Tried:
    """Runs one check with these settings, as for creating a monitor, and answers with all of its result. Nothing is
    saved, and nobody is notified. It takes 10 s at most, whatever `timeout` is; a project has 20 tries in 5 minutes.
    """
    wanted = monitors.wanted(data.network_monitor, None, production=service.settings.production)
    async with transaction(service.pool) as tx:
        await monitor_tries.take(tx, caller)
    await monitors.reachable(wanted, service.settings.allow_networks)
    return _shown(await monitor_tries.look(wanted, service.settings.allow_networks))


def _shown(result: Result) -> Tried:
    seen = result.evidence or Evidence()
    return Tried(
        ok=result.ok,
        summary=_summary(result),
        problem=result.problem,
        message=result.message,
        response_ms=None if result.response_ms is None else round(result.response_ms, 1),
        status_code=result.status_code,
        evidence=EvidenceShown(seen.request, seen.request_headers, seen.response, seen.response_headers),
        body=result.body,
        findings=[
            FindingShown("tls_expiry", each.severity, each.message, each.details) for each in result.findings or ()
        ],
    )


def _summary(result: Result) -> str:
    after = "" if result.response_ms is None else f" after {result.response_ms:.4g} ms"
    verdict = f"This check is good{after}" if result.ok else f"This check failed{after}: {result.message}"
    return ". ".join((verdict, *(each.message for each in result.findings or ())))


routes = [try_]
