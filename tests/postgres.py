"""A real PostgreSQL for tests: a fresh copy of a migrated database in a few dozen milliseconds."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from urllib.parse import urlsplit

import asyncpg

TEMPLATE = "tocsin_template"

_numbers = itertools.count(1)


def of_database(dsn: str, name: str) -> str:
    """The same server's database `name`."""
    address = urlsplit(dsn)
    return f"{address.scheme}://{address.netloc}/{name}" + (f"?{address.query}" if address.query else "")


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server of the tests' own. `clone` makes a migrated, empty database in a few dozen milliseconds."""

    dsn: str

    async def clone(self) -> str:
        name = f"test_{next(_numbers)}"
        await self.run(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
        return of_database(self.dsn, name)

    async def drop(self, dsn: str) -> None:
        await self.run(f"DROP DATABASE IF EXISTS {urlsplit(dsn).path[1:]} WITH (FORCE)")

    async def run(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()
