"""What a backup says of itself, and what a database may be told because of that: names of Tocsin's own and no others.

A file can say anything, and is read by one who may do everything in the database that is restored.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime

import msgspec

from tocsin.domain.errors import Refused
from tocsin.settings import KEY_BYTES
from tocsin.storage.postgres import migrate
from tocsin.storage.postgres.sealed_file import unreadable

NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
BOUND = re.compile(r"DEFAULT|FOR VALUES FROM \((?:MINVALUE|'[^'\\]*')\) TO \((?:MAXVALUE|'[^'\\]*')\)")
"""What PostgreSQL says of a partition by time, and may be told."""
VERSION = re.compile(r"[0-9A-Za-z.+!-]{1,50}")

NOT_KEPT = frozenset({"_pogo_migration", "_pogo_version", "engines", "timeline"})
"""Tables that a restore makes anew: the record of migrations, and engines, none of which will be there."""
MADE = re.compile(
    r"^CREATE (?:UNLOGGED )?TABLE (?P<made>\w+)|^DROP TABLE (?P<gone>[\w, ]+);"
    r"|^ALTER TABLE (?P<old>\w+) RENAME TO (?P<new>\w+);",
    re.MULTILINE,
)
"""How the migrations write what makes, drops and renames a table."""


class Table(msgspec.Struct, frozen=True):
    """A table or a partition that has rows; `size` is its bytes on the disk. `parent` and `bound`: of a partition."""

    name: str
    columns: list[str]
    size: int
    parent: str | None = None
    bound: str | None = None


class Manifest(msgspec.Struct, frozen=True):
    """What a backup says of itself."""

    version: str
    at: datetime
    postgresql: int
    migrations: list[str]
    tables: list[Table]
    sequences: dict[str, int]
    keys: list[bytes]

    @property
    def size(self) -> int:
        return sum(table.size for table in self.tables)


def made_by(migrations: Collection[str]) -> set[str]:
    """The tables of these migrations that a backup keeps; of partitions only those that are always there."""
    made: set[str] = set()
    for name in sorted(set(migrations) & set(migrate.known())):
        applied = (migrate.FILES / f"{name}.sql").read_text().partition("-- migrate: rollback")[0]
        for each in MADE.finditer(applied):
            made -= {*(each["gone"] or "").replace(" ", "").split(","), each["old"]}
            made |= {found for found in (each["made"], each["new"]) if found}
    return made - NOT_KEPT


def parsed(content: bytes) -> Manifest:
    """Raises `Refused` for one that this version cannot restore, or that names what is not Tocsin's."""
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise of_another_version() from None
    if not VERSION.fullmatch(manifest.version):
        raise of_another_version()
    if newer := sorted(set(manifest.migrations) - set(migrate.known())):
        raise unreadable(
            f"this backup was made by Tocsin {manifest.version}, which is newer (it has {newer[-1]!a}); "
            "restore it with that version"
        )
    if not manifest.keys or any(len(key) != KEY_BYTES for key in manifest.keys):
        raise unreadable("this backup has no keys that could be used")
    own = made_by(manifest.migrations)
    for table in manifest.tables:
        _require_own(table, own)
    for name in manifest.sequences:
        _require_name(name)
    return manifest


def of_another_version() -> Refused:
    return unreadable("this backup was made by another version of Tocsin than this one can read")


def _require_own(table: Table, own: set[str]) -> None:
    for name in (table.name, *table.columns):
        _require_name(name)
    partition = table.parent in own and BOUND.fullmatch(table.bound or "")
    if not partition and (table.name not in own or table.parent is not None or table.bound is not None):
        raise unreadable(f"{table.name} is in this backup, and is no table of Tocsin's")


def _require_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise unreadable(f"this backup names {name[:70]!a}, which is no name of Tocsin's")
