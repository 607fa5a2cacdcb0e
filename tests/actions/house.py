"""A project with one of everything, on which each action is tried as each role."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tocsin.actions.base import Actor
from tocsin.settings import Settings
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault


@dataclass
class House:
    """A project with one of everything, and what an action needs besides."""

    vault: Vault
    project_id: UUID
    owner: UUID
    member: UUID
    other: UUID
    webhook: UUID
    disabled: UUID
    monitor: UUID
    server: UUID
    incident: UUID
    silence: UUID
    settings: Settings


Call = Callable[[Tx, Actor, House], Awaitable[Any]]
