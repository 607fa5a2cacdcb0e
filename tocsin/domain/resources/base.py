"""What describes a kind of resource: for callers, for people, and for the SQL that looks one up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from uuid import UUID

from tocsin.domain import discovery, ids
from tocsin.domain.errors import not_found


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind. The SQL expressions refer to a row of its `table` as `r`; every table has `id` and `project_id`."""

    type: str
    """Its name in the API and in webhooks: `resource_type`."""
    prefix: str
    """The prefix of its public identifiers."""
    noun: str
    """Its name in error codes and bodies: `server_not_found`."""
    label: str
    """Its name for people."""
    path: str
    """The path of its pages; below `/api/v1` its calls have the same."""
    table: str
    name: str
    """SQL: the display name of this one."""
    rank: int
    """Its place among the kinds, where all of them are named."""
    url: str | None = None
    """SQL: the address that its notifications name; None for its page."""

    def public(self, key: UUID) -> str:
        return ids.public(self.prefix, key)

    def key_of(self, uuid: str) -> UUID:
        """Raises `Refused` (404) where `uuid` cannot be one of these."""
        key = ids.parse(self.prefix, uuid)
        if key is None:
            raise not_found(self.noun)
        return key

    def page(self, key: UUID) -> str:
        """The path of its page, below the public URL."""
        return f"{self.path}/{self.public(key)}"


@cache
def kinds() -> Mapping[str, Resource]:
    """Every kind that a file next to this one defines as `RESOURCE`, by its `type`."""
    modules = discovery.modules(__name__.rpartition(".")[0])
    found = [module.RESOURCE for module in modules if hasattr(module, "RESOURCE")]
    return {each.type: each for each in sorted(found, key=lambda each: each.rank)}


def of_uuid(uuid: str) -> Resource:
    """The kind that a public identifier names. Raises `Refused` (404)."""
    for kind in kinds().values():
        if ids.parse(kind.prefix, uuid) is not None:
            return kind
    raise not_found("resource")
