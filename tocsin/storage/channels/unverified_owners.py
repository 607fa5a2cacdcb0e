"""Strangers: people who made a project for themselves and have not shown that their mail address is theirs.

Their projects look at things and send nothing, by no type of integration: what leaves this installation in its
operator's name (mail, calls of any site, logins to machines) is for people whom the operator could write to.
"""

from __future__ import annotations

from uuid import UUID

from tocsin.storage.postgres.database import Tx


def condition(project: str) -> str:
    """SQL: whether a stranger made the project whose key the expression `project` is."""
    return f"""EXISTS (
           SELECT FROM projects made JOIN users maker ON maker.id = made.made_by
           WHERE made.id = {project} AND maker.email_verified_at IS NULL AND NOT maker.operator)"""


MADE = f"SELECT {condition('$1')}"


async def made(tx: Tx, project_id: UUID) -> bool:
    """Whether a stranger made the project."""
    return bool(await tx.fetchval(MADE, project_id))
