"""Where the inner loop's notifications go: nowhere. That they were delivered is on record, as of any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tocsin.domain import inner_loop
from tocsin.domain.deliveries import Delivered, Outcome
from tocsin.domain.errors import invalid_field
from tocsin.domain.incidents import Notification
from tocsin.integrations.base import NO_PERMIT, IntegrationType, Permit, Transports


class InnerLoop(IntegrationType):
    """The service's own; nobody can create one."""

    type = inner_loop.INTEGRATION_TYPE
    label = "Inner loop"
    inner = True
    secret_settings = frozenset({inner_loop.SETTING})

    def parse(self, given: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
        raise invalid_field("type", "is the service's own")

    def default_name(self, settings: Mapping[str, Any]) -> str:
        return inner_loop.NAME

    async def send(
        self, settings: Mapping[str, Any], notification: Notification, transports: Transports,
        permit: Permit = NO_PERMIT,
    ) -> Outcome:  # fmt: skip
        return Delivered()
