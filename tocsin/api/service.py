"""What the API works with: the one value that every handler is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from tocsin.domain.incidents import Closing, Incident, Missing, Opened, Opening
from tocsin.settings import Settings
from tocsin.storage.database import GroupCommit
from tocsin.storage.secrets import Vault


@dataclass(slots=True, kw_only=True)
class Service:
    """One installation, as the API sees it.

    The three group commits carry one request each: a unit of openings that stands or falls together, a unit of
    closings, one server's report.
    """

    pool: asyncpg.Pool
    settings: Settings
    vault: Vault
    public_url: str
    open_incidents: GroupCommit[Sequence[Opening], list[Opened | Missing | None]]
    resolve_incidents: GroupCommit[Sequence[Closing], list[Incident | None]]
    report: GroupCommit[Any, Any]
