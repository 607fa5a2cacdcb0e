"""Everything that is in the database, as a stream of frames: taken from one snapshot, and put into an empty database.

Rows travel as PostgreSQL's own text (COPY), table by table, those that are referred to first, so that a backup can be
restored by another major version of PostgreSQL, and on a server of one's own what was embedded. The tables themselves
come from the migrations that the backup names, partitions from their bounds.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from graphlib import TopologicalSorter
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from tocsin.domain.errors import Refused
from tocsin.storage.postgres import manifest as manifests
from tocsin.storage.postgres import migrate, retention
from tocsin.storage.postgres.connecting import reason
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.manifest import Manifest, Table
from tocsin.storage.postgres.sealed_file import unreadable

TRIES = 3
LONGEST = 7 * 86_400.0
"""Seconds that the rows of one table may take."""
HEAD = 5
"""Bytes before a frame: its kind, and its length."""
MANIFEST, TABLE, ROWS, END_OF_TABLE, END = b"M", b"T", b"R", b"E", b"Z"
LONGEST_FRAME = 1 << 30

OF_AN_EXTENSION = """
EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
"""SQL: whether the relation `c` came with an extension, and is made anew by it."""
TABLES = f"""
SELECT c.oid, c.relname AS name, pg_relation_size(c.oid) AS size,
       (SELECT p.relname FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent
        WHERE h.inhrelid = c.oid AND c.relispartition AND p.relnamespace = c.relnamespace) AS parent,
       pg_get_expr(c.relpartbound, c.oid) AS bound,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
             ORDER BY a.attnum) AS columns
FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relpersistence = 'p' AND NOT {OF_AN_EXTENSION}
ORDER BY c.relname
"""
REFERENCES = "SELECT conrelid AS table, confrelid AS parent FROM pg_constraint WHERE contype = 'f'"
SEQUENCES = """
SELECT s.sequencename AS name, s.last_value AS value FROM pg_sequences s
WHERE s.schemaname = 'public' AND s.last_value IS NOT NULL AND s.sequencename ~ '^[a-z_][a-z0-9_]*$'
"""
APPLIED = "SELECT migration_id FROM public._pogo_migration WHERE schema_name = 'public' ORDER BY 1"
SNAPSHOT = "SELECT now() AS at, current_setting('server_version_num')::int / 10000 AS major"
NOT_EMPTY = f"""
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND NOT {OF_AN_EXTENSION}
ORDER BY c.relname LIMIT 1
"""
EXISTS = "SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname = $1)"
SET_SEQUENCE = f"""
SELECT setval(c.oid::regclass, $2) FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'S' AND c.relname = $1 AND NOT {OF_AN_EXTENSION}
"""
UNFIT = (
    asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.SyntaxOrAccessError,
    asyncpg.FeatureNotSupportedError, asyncpg.ObjectNotInPrerequisiteStateError,
)
"""What PostgreSQL says of content that it cannot take, rather than of itself."""
RESTORED = "SELECT id FROM audit WHERE action = 'restored a backup' ORDER BY id DESC LIMIT 1"
IS_RESTORED = "SELECT EXISTS (SELECT FROM audit WHERE id = $1)"
ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock($1)"

SESSION = """
SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres';
SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL synchronize_seqscans = off;
SET LOCAL enable_seqscan = on; SET LOCAL max_parallel_workers_per_gather = 0;
SELECT set_config(name, '0', true) FROM pg_settings WHERE name = 'transaction_timeout'
"""
"""Rows are written in the same way everywhere, and read in the order in which they lie."""


class TableEnd(msgspec.Struct, frozen=True):
    """How many rows a table has, and the SHA-256 of their text."""

    rows: int
    digest: bytes


Frame = tuple[bytes, bytes]
"""A kind, and what it holds."""
Write = Callable[[bytes], None]
Done = Callable[[int, int], None]
"""Is told how many bytes are done, of how many."""


async def dump(connection: Tx, write: Write, *, version: str, keys: Sequence[bytes], done: Done) -> Manifest:
    """Write all that is there at one moment. Pass a connection outside a transaction. Nothing waits for it; it waits
    for nothing but a partition that is just being dropped.
    """
    for left in reversed(range(TRIES)):
        try:
            async with _snapshot(connection):
                tables = await _locked(connection)
                return await _dump(connection, write, tables, version, keys, done)
        except asyncpg.UndefinedTableError:  # dropped before it was locked; nothing is written yet
            if not left:
                raise
    raise AssertionError


@asynccontextmanager
async def _snapshot(connection: Tx) -> AsyncIterator[None]:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(SESSION)
        yield


async def left_out(tx: Tx) -> list[str]:
    """The tables beside Tocsin's that are nobody's but the operator's, and are in no backup."""
    _, others = await _tables(tx)
    return others


async def _tables(tx: Tx) -> tuple[dict[int, asyncpg.Record], list[str]]:
    """Tocsin's, by number, and the names of others."""
    own = manifests.made_by(await _applied(tx))
    found, others = {}, []
    for row in await tx.fetch(TABLES):
        if row["parent"] in own or (row["name"] in own and row["parent"] is None):
            found[row["oid"]] = row
        elif row["name"] not in manifests.NOT_KEPT:
            others.append(row["name"])
    return found, others


async def _applied(tx: Tx) -> list[str]:
    return [row["migration_id"] for row in await tx.fetch(APPLIED)]


async def _locked(tx: Tx) -> list[Table]:
    """Every table of Tocsin's, those first that others refer to; none can be dropped from now on."""
    found, _ = await _tables(tx)
    if not found:
        raise Refused(422, "nothing_to_back_up", "There is nothing to back up yet: the database has no tables")
    graph: TopologicalSorter[int] = TopologicalSorter(dict.fromkeys(found, ()))
    for row in await tx.fetch(REFERENCES):
        if row["table"] in found and row["parent"] in found and row["table"] != row["parent"]:
            graph.add(row["table"], row["parent"])
    tables = [
        Table(row["name"], list(row["columns"]), row["size"], row["parent"], row["bound"])
        for row in map(found.__getitem__, graph.static_order())
    ]
    await tx.execute(f"LOCK TABLE {_all(tables)} IN ACCESS SHARE MODE")
    return tables


async def _dump(
    tx: Tx, write: Write, tables: list[Table], version: str, keys: Sequence[bytes], done: Done
) -> Manifest:
    moment = await tx.fetchrow(SNAPSHOT)
    manifest = Manifest(
        version, moment["at"], moment["major"], await _applied(tx), tables,
        {row["name"]: row["value"] for row in await tx.fetch(SEQUENCES)}, list(keys),
    )  # fmt: skip

    def put(kind: bytes, content: bytes) -> None:
        write(kind + len(content).to_bytes(HEAD - 1, "big"))
        write(content)

    put(MANIFEST, msgspec.json.encode(manifest))
    before, total = 0, manifest.size
    for table in tables:
        put(TABLE, table.name.encode())
        copied = 0

        def rows(data: bytes, table: Table = table, before: int = before) -> None:
            nonlocal copied
            put(ROWS, data)
            copied += len(data)
            done(before + min(copied, table.size), total)

        end = await _read(tx, table, rows)
        put(END_OF_TABLE, msgspec.json.encode(end))
        before += table.size
        done(before, total)
    put(END, len(tables).to_bytes(4, "big"))
    return manifest


async def _read(tx: Tx, table: Table, take: Write) -> TableEnd:
    """Its rows as they lie, a piece at a time."""
    digest = hashlib.sha256()

    async def output(data: bytes) -> None:
        digest.update(data)
        take(bytes(data))

    columns = ", ".join(map(_quoted, table.columns))
    query = f"SELECT {columns} FROM ONLY public.{_quoted(table.name)}"
    said = await tx.copy_from_query(query, output=output, timeout=LONGEST)
    return TableEnd(_count(said), digest.digest())


# ------------------------------------------------------------------------------------------------------------ reading


def frames(pieces: Iterator[bytes]) -> Iterator[Frame]:
    """The frames of a backup, up to its end. Raises `Refused` if one is missing."""
    held = bytearray()

    def take(size: int) -> bytes:
        while len(held) < size:
            piece = next(pieces, None)
            if piece is None:
                raise unreadable("this backup is not complete")
            held.extend(piece)
        taken = bytes(held[:size])
        del held[:size]
        return taken

    while True:
        head = take(HEAD)
        kind, length = head[:1], int.from_bytes(head[1:], "big")
        if length > LONGEST_FRAME:
            raise unreadable("this backup is damaged")
        content = take(length)
        if kind == END and (held or any(pieces)):
            raise unreadable("this backup goes on after its end")
        yield kind, content
        if kind == END:
            return


def manifest_of(found: Iterator[Frame]) -> Manifest:
    """The manifest, which comes first. Raises `Refused` for one that this version cannot restore."""
    kind, content = next(found)
    if kind != MANIFEST:
        raise manifests.of_another_version()
    return manifests.parsed(content)


def check(pieces: Iterator[bytes]) -> tuple[Manifest, int]:
    """Read a whole backup and compare what is in it with what it says: its manifest, and how many rows it has."""
    found = frames(pieces)
    manifest = manifest_of(found)
    total = 0
    for table in manifest.tables:
        digest = hashlib.sha256()
        for data in _rows_of(table, found):
            if isinstance(data, TableEnd):
                total += data.rows
                if data.digest != digest.digest():
                    raise unreadable(f"this backup is damaged: {table.name} is not as it was written")
            else:
                digest.update(data)
    _require_end(manifest, found)
    return manifest, total


def _require_end(manifest: Manifest, found: Iterator[Frame]) -> None:
    if next(found, None) != (END, len(manifest.tables).to_bytes(4, "big")):
        raise unreadable("this backup is not complete")


def _rows_of(table: Table, found: Iterator[Frame]) -> Iterator[bytes | TableEnd]:
    """The rows of the next table, then its end."""
    if next(found, None) != (TABLE, table.name.encode()):
        raise unreadable(f"this backup is damaged: {table.name} is missing")
    for kind, content in found:
        if kind == END_OF_TABLE:
            try:
                yield msgspec.json.decode(content, type=TableEnd)
            except (msgspec.DecodeError, UnicodeDecodeError):
                break
            return
        if kind != ROWS:
            break
        yield content
    raise unreadable(f"this backup is damaged: {table.name} has no end")


# ---------------------------------------------------------------------------------------------------------- restoring


async def load(tx: Tx, pieces: Iterator[bytes], done: Done) -> Manifest:
    """Make the tables of a backup in an empty database, fill them, read them back, and bring them to this version.

    In one transaction of the caller's: if that ends otherwise, nothing is left. Raises `Refused`.
    """
    await tx.execute(SESSION)
    await tx.execute(ONE_AT_A_TIME, migrate.LOCK)
    if there := await tx.fetchval(NOT_EMPTY):
        raise Refused(
            409, "database_not_empty",
            f"The database is not empty (it has {there}). A backup is only restored into an empty one: make a new "
            "database, and name it in TOCSIN_DATABASE_URL",
        )  # fmt: skip
    found = frames(pieces)
    manifest = manifest_of(found)
    await migrate.apply(tx, manifest.migrations)
    try:
        await _restore(tx, manifest, found, done)
    except UNFIT as error:
        raise unreadable(f"what is in this backup does not fit into Tocsin's tables: {reason(error)}") from error
    await migrate.apply(tx, migrate.known())
    await retention.ensure_partitions(tx)
    await tx.execute("ANALYZE")
    return manifest


async def restored_by(tx: Tx) -> UUID:
    """The entry in the audit log by which it can be seen later whether this restore was committed."""
    entry: UUID = await tx.fetchval(RESTORED)
    return entry


async def is_restored_by(connection: Tx, entry: UUID) -> bool:
    """Whether that restore was committed. Waits for its end: it may be committing still."""
    async with connection.transaction():
        await connection.execute(SESSION)
        await connection.execute(ONE_AT_A_TIME, migrate.LOCK)
        return bool(await connection.fetchval(EXISTS, "audit") and await connection.fetchval(IS_RESTORED, entry))


async def _restore(tx: Tx, manifest: Manifest, found: Iterator[Frame], done: Done) -> None:
    for table in manifest.tables:
        if table.parent is not None and not await tx.fetchval(EXISTS, table.name):
            name, parent = _quoted(table.name), _quoted(table.parent)
            await tx.execute(f"CREATE TABLE public.{name} PARTITION OF public.{parent} {table.bound}")
    # what migrations put there is in the backup as well
    await tx.execute(f"TRUNCATE {_all(manifest.tables)}")
    ends: dict[str, TableEnd] = {}
    before = 0
    for table in manifest.tables:
        ends[table.name] = await _fill(tx, table, found)
        before += table.size
        done(before, manifest.size)
    _require_end(manifest, found)
    for name, value in manifest.sequences.items():
        await tx.execute(SET_SEQUENCE, name, value)
    await _verify(tx, manifest.tables, ends)


async def _fill(tx: Tx, table: Table, found: Iterator[Frame]) -> TableEnd:
    ended: list[TableEnd] = []

    async def source() -> AsyncIterator[bytes]:
        for data in _rows_of(table, found):
            if isinstance(data, TableEnd):
                ended.append(data)
            else:
                yield data

    said = await tx.copy_to_table(
        table.name, schema_name="public", columns=table.columns, source=source(), timeout=LONGEST
    )
    if _count(said) != ended[0].rows:
        raise unreadable(f"{_count(said)} rows of {table.name} were restored, and {ended[0].rows} are in the backup")
    return ended[0]


async def _verify(tx: Tx, tables: Sequence[Table], ends: Mapping[str, TableEnd]) -> None:
    """Read back what was just written."""
    for table in tables:
        if await _read(tx, table, lambda _: None) != ends[table.name]:
            raise unreadable(f"{table.name} is not the same when it is read back")


def _count(said: Any) -> int:
    return int(str(said).rpartition(" ")[2])


def _all(tables: Sequence[Table]) -> str:
    return ", ".join(f"public.{_quoted(table.name)}" for table in tables)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
