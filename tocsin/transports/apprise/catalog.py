"""The services that Apprise offers and their fields, as a worker describes them: asked when needed, and cached."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tocsin.domain.errors import Refused, not_found
from tocsin.domain.ttl_cache import TTLCache
from tocsin.transports.apprise.allowed import OFFERED
from tocsin.transports.apprise.slots import Busy
from tocsin.transports.apprise.workers import Ended, Unavailable, Workers

PATIENCE = 20.0
"""Seconds that a caller waits for an answer: a first one includes the start."""
KEPT = 300.0
MAX_KEPT = 256


@dataclass(frozen=True, slots=True)
class Service:
    """A service by the name that settings have, and by the one for people."""

    service: str
    label: str


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a service. A `choice` has `values`; a `list` holds several values, with commas between them."""

    name: str
    label: str
    type: Literal["string", "number", "boolean", "choice", "list"]
    required: bool
    secret: bool
    values: Sequence[str]
    extra: bool = False
    """It is an option, and no part of the address."""

    @property
    def choices(self) -> Sequence[tuple[str, str]]:
        """What a form offers; nothing for a field to type in."""
        values = ("yes", "no") if self.type == "boolean" else self.values if self.type == "choice" else ()
        return [("", "as the service does"), *[(each, each) for each in values]] if values else []


@dataclass(frozen=True, slots=True)
class Described:
    """A service with its fields, and the page that explains how to get them."""

    service: str
    label: str
    fields: Sequence[Field]
    help_url: str


class Catalog:
    """What one process knows of the services, at most `MAX_KEPT` of them for `KEPT` seconds."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._services: Sequence[Service] = ()
        self._described: TTLCache[str, Described] = TTLCache(MAX_KEPT, KEPT)

    async def services(self, search: str = "") -> Sequence[Service]:
        """Those with `search` in a name, in alphabetical order. Raises `Refused` (503)."""
        if not self._services:
            found = await asked(self._workers, {"do": "services"})
            self._services = tuple(Service(each["service"], each["label"]) for each in found["services"])
        wanted = search.strip().lower()
        return [each for each in self._services if wanted in each.label.lower() or wanted in each.service]

    async def describe(self, service: str) -> Described:
        """Raises `Refused`: 404 for a service that is not offered, 503."""
        label = next((each.label for each in await self.services() if each.service == service), service)
        if service not in OFFERED:
            raise not_found("service")
        known = self._described.get(service)
        if known is None:
            said = await asked(self._workers, {"do": "describe", "service": service})
            if "error" in said:
                raise not_found("service")
            fields = [Field(**each) for each in said["fields"]]
            known = Described(service, label, fields, said["about"])
            self._described.put(service, known, time.monotonic())
        return known


async def asked(workers: Workers, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a worker answers. Raises `Refused` (503) if none can be asked."""
    try:
        answered = await workers.ask(request, timeout=PATIENCE)
    except (Unavailable, Busy, Ended, TimeoutError) as error:
        words = str(error) or "it does not answer"
        raise Refused(503, "apprise_unavailable", f"Apprise cannot be asked at present: {words}") from error
    return answered.value
