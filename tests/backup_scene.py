"""Backups that are taken and restored by the commands."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg

from tests.processes import CommandResult, clean_environ, tocsin
from tests.waiting import PATIENCE

PASSPHRASE = "four words and more"


async def backup(environ: dict[str, str], file: Path, **more: str) -> CommandResult:
    return await tocsin("backup", str(file), environ={**environ, "TOCSIN_BACKUP_PASSPHRASE": PASSPHRASE, **more})


async def restore(file: Path, into: Path, **environ: str) -> CommandResult:
    settings = {"TOCSIN_BACKUP_PASSPHRASE": PASSPHRASE, "TOCSIN_DATA_DIR": str(into), **environ}
    return await tocsin("restore", str(file), environ=settings)


def assert_one_line(done: CommandResult, status: int, *words: str) -> None:
    assert (done.code, done.out, done.err.count("\n")) == (status, "", 1), done
    assert all(word in done.err for word in words), done.err


async def ask(dsn: str, statement: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def typed(
    arguments: list[str], environ: dict[str, str], keys: str, before: Callable[[], None] = lambda: None
) -> str:
    """What the command says at a terminal where this is typed; `before` is what happens when it first asks."""
    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tocsin", *arguments], env={**clean_environ(), **environ}, stdin=there, stdout=there,
        stderr=there, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(there)
    said, lines, typing = b"", keys.splitlines(keepends=True), 0
    try:
        while part := os.read(here, 4096):
            said += part
            if typing < len(lines) and said.count(b": ") > typing:
                if not typing:
                    before()
                os.write(here, lines[typing].encode())
                typing += 1
    except OSError:  # it has ended
        pass
    finally:
        os.close(here)
        process.wait(PATIENCE)
    return said.decode(errors="replace")
