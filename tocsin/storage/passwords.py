"""Passwords: kept as argon2id hashes, computed beside the event loop and few at a time."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

AT_ONCE = 2
"""Each takes 64 MiB and most of a core while it lasts."""

_hasher = PasswordHasher()
_threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="argon2")


def hash_now(password: str) -> str:
    """The hash, in some 50 ms of this thread."""
    return _hasher.hash(password.encode("utf-8", "surrogatepass"))


async def hash_of(password: str) -> str:
    return await asyncio.get_running_loop().run_in_executor(_threads, hash_now, password)


async def matches(password_hash: str | None, password: str) -> bool:
    """Whether it is that password. Without a hash it is not, and takes as long to say so."""
    return await asyncio.get_running_loop().run_in_executor(_threads, _matches, password_hash, password)


def _matches(password_hash: str | None, password: str) -> bool:
    if password_hash is None:
        hash_now(password)
        return False
    try:
        return _hasher.verify(password_hash, password.encode("utf-8", "surrogatepass"))
    except (VerificationError, InvalidHashError):
        return False
