"""On call: an integration whose recipient depends on the time. Whoever is on duty gets what is due, in its stead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from uuid import UUID

from tocsin.domain import ids, on_call, zones
from tocsin.domain.deliveries import Outcome, Suppressed
from tocsin.domain.errors import invalid_field
from tocsin.domain.incidents import Notification
from tocsin.domain.on_call import TYPE
from tocsin.integrations.base import NO_PERMIT, Creator, Field, IntegrationType, Permit, Transports
from tocsin.storage.channels.integrations import Integration
from tocsin.storage.notifying import on_call as schedules
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault

MAX_MEMBERS = 50
ROTATIONS = (("weekly", "Every week"), ("daily", "Every day"), ("none", "Never: the first is always on duty"))


class OnCallIntegration(IntegrationType):
    type: ClassVar[str] = TYPE
    label: ClassVar[str] = "on-call schedule"
    about: ClassVar[str] = "Notifies whoever is on duty: integrations of this project take turns, by day or by week."
    fields: ClassVar[tuple[Field, ...]] = (
        Field("integrations", "Who takes turns, in this order", "members",
              hint="The first begins. Who cannot be reached is replaced by the next."),
        Field("rotation", "Hand over", "choice", options=ROTATIONS),
        Field("handover", "Hand-over at", placeholder="MO 09:00", required=False,
              hint="Day and time, such as MO 09:00; for every day only the time, such as 09:00."),
        Field("timezone", "Time zone", placeholder="Europe/Vienna"),
    )  # fmt: skip
    test_label: ClassVar[str] = "Send a test to whoever is on duty"
    for_people: ClassVar[bool] = True
    why_no_flood: ClassVar[str] = "must be left out: that of whoever is on duty applies"

    def parse(self, given: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
        old = stored or {}
        rotation = given.get("rotation", old.get("rotation"))
        if rotation not in on_call.ROTATIONS:
            raise invalid_field("settings.rotation", "must be daily, weekly or none")
        found = {"timezone": _zone(given.get("timezone", old.get("timezone"))), "rotation": rotation}
        if rotation != "none":
            found["handover"] = _handover(given.get("handover", old.get("handover")), rotation)
        # A list can be empty where all in it were deleted, but nobody can make it so.
        members = given.get("integrations", old.get("integrations"))
        found["integrations"] = members if stored and members == old["integrations"] else _members(members)
        return found

    def default_name(self, settings: Mapping[str, Any]) -> str:
        return {"daily": "On call, by the day", "weekly": "On call, by the week"}.get(settings["rotation"], "On call")

    async def before_create(self, tx: Tx, vault: Vault, creator: Creator, given: Mapping[str, Any]) -> None:
        await check_members(tx, creator.project_id, _keys(_members(given.get("integrations"))), "settings.integrations")

    async def before_change(self, tx: Tx, found: Integration, settings: Mapping[str, Any]) -> None:
        await check_members(tx, found.project_id, _keys(settings["integrations"]), "settings.integrations")
        await schedules.keep_duty(tx, found.project_id, found.id, settings)

    async def send(
        self, settings: Mapping[str, Any], notification: Notification, transports: Transports,
        permit: Permit = NO_PERMIT,
    ) -> Outcome:
        """Nothing: incidents and tests are passed on before, and each of its members is told of notices itself."""
        return Suppressed("it is not sent to itself: whoever is on duty is notified")


async def check_members(tx: Tx, project_id: UUID, members: Sequence[UUID], field: str) -> None:
    """Raises `Refused` (422) where one cannot be on duty. They cannot be deleted until the transaction ends."""
    found = await schedules.members(tx, project_id, members)
    for each in members:
        public = ids.public(ids.INTEGRATION, each)
        if each not in found:
            raise invalid_field(field, f"must be integrations of this project; it has no {public}")
        if found[each].type == TYPE:
            raise invalid_field(field, f"must not name on-call schedules, such as {public}")
        if not found[each].repeatable:
            raise invalid_field(field, f"must be integrations that notify; {public} restarts a server")


def _zone(value: object) -> str:
    return zones.checked(value if isinstance(value, str) else "", "settings.timezone")


def _handover(value: object, rotation: str) -> str:
    parsed = on_call.handover_of(value) if isinstance(value, str) and len(value) <= 8 else None
    example = "MO 09:00" if rotation == "weekly" else "09:00"
    if parsed is None or (parsed[0] is None) != (rotation == "daily"):
        raise invalid_field("settings.handover", f"must be such as {example} where the rotation is {rotation}")
    return str(value)


def _members(value: object) -> list[str]:
    field = "settings.integrations"
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MEMBERS:
        raise invalid_field(field, f"must be a list of 1 to {MAX_MEMBERS} integrations")
    if not all(isinstance(each, str) and ids.parse(ids.INTEGRATION, each) for each in value):
        raise invalid_field(field, "must be identifiers of integrations, such as INT…")
    if len(set(value)) < len(value):
        raise invalid_field(field, "must not name an integration twice")
    return [*value]


def _keys(members: Sequence[str]) -> list[UUID]:
    return [each for each in (ids.parse(ids.INTEGRATION, text) for text in members) if each is not None]
