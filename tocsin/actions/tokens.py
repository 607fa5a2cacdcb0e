"""A project's API token: shown to those who may use it, and replaced."""

from __future__ import annotations

from tocsin.actions.base import MEMBERS, OWNERS, Actor, Change, action, own
from tocsin.domain.errors import Refused, not_found
from tocsin.storage.accounts import accounts
from tocsin.storage.accounts.accounts import NewProject
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault


@action("looked at the API token", by=MEMBERS)
async def reveal(tx: Tx, actor: Actor, vault: Vault) -> tuple[str, Change]:
    """The token in clear; the look is recorded."""
    found = await accounts.projects_of(tx, vault, own(actor))
    project = next((each for each in found if each.id == actor.project_id), None)
    if project is None or project.api_token is None:
        raise Refused(403, "forbidden", "Only members of the project may see its token")
    return project.api_token, Change(project.name)


@action("rotated the API token", by=OWNERS)
async def rotate(tx: Tx, actor: Actor, vault: Vault) -> tuple[NewProject, Change]:
    """The old one stops working within a second. Raises `Refused` (404)."""
    made = await accounts.rotate_token(tx, vault, actor.project_id)
    if made is None:
        raise not_found("project")
    return made, Change(made.name)
