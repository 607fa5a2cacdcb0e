"""Strangers: people who created a project by self-registration and have not verified their mail address.

Their projects can monitor but send nothing, by no type of integration: what leaves this installation in its
operator's name (mail, requests to any site, logins to machines) is for people whom the operator could write to.
"""

from __future__ import annotations

from uuid import UUID

from tocsin.storage.postgres.database import Tx


def made_by_unverified(project: str) -> str:
    """SQL: whether a stranger created the project whose key the expression `project` is."""
    return f"""EXISTS (
           SELECT FROM projects made JOIN users maker ON maker.id = made.made_by
           WHERE made.id = {project} AND maker.email_verified_at IS NULL AND NOT maker.operator)"""


MADE = f"SELECT {made_by_unverified('$1')}"


async def made(tx: Tx, project_id: UUID) -> bool:
    """Whether a stranger created the project."""
    return bool(await tx.fetchval(MADE, project_id))
