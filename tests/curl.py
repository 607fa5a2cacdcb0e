"""What curl, and openssl, say of the very same far end."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """curl's exit status (0: it had an answer), and the last answer's status."""

    exit: int
    status: int


async def run(name: str, *arguments: str, given: bytes = b"") -> tuple[int, str]:
    """Exit status and standard output of a command that has to be there."""
    program = shutil.which(name)
    assert program, f"{name} is not installed"
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    out, _ = await process.communicate(given)
    assert process.returncode is not None
    return process.returncode, out.decode("utf-8", "replace")


async def curl(*arguments: str) -> Said:
    """One request, with these options."""
    code, out = await run(
        "curl", "--disable", "--silent", "--max-time", "20", "--noproxy", "*", "--output", "/dev/null",
        "--write-out", "%{http_code}", *arguments,
    )  # fmt: skip
    return Said(code, int(out))
