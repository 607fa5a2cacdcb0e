"""The service: the one value that every handler gets."""

from __future__ import annotations

import asyncio

import asyncpg

from tocsin.actions import batches
from tocsin.settings import Settings
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports.apprise.catalog import Catalog
from tocsin.transports.apprise.workers import Workers


class Service:
    """One installation, as the API sees it."""

    # No dataclass: the framework would inspect one, field by field, for each handler.

    def __init__(self, *, pool: asyncpg.Pool, settings: Settings, vault: Vault, public_url: str) -> None:
        self.pool = pool
        self.settings = settings
        self.vault = vault
        self.public_url = public_url
        self.apprise = Workers(None)
        self.apprise_catalog = Catalog(self.apprise)
        self.batches = batches.of(pool, vault, public_url)
        self.reading = asyncio.Lock()
        """Held by whoever reads a long body: so others wait for one piece of one body at a turn, not of each."""
