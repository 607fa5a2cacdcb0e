"""Whose alerts a request brings: the key of a source in its path, its `Authorization` header or its body."""

from __future__ import annotations

import binascii
import time
from base64 import b64decode

import asyncpg

from tocsin.api.service import Service
from tocsin.domain.errors import Refused
from tocsin.domain.sources.base import KEY_LENGTH
from tocsin.domain.ttl_cache import TTLCache
from tocsin.storage.monitoring import sources
from tocsin.storage.monitoring.sources import Source

CACHE_SECONDS, CACHE_SIZE = 1.0, 1_000
"""For which a process remembers whose a key is."""
UNKNOWN = "There is no source with that key: it may have been changed; the source's page shows the one in force"

_known: TTLCache[tuple[asyncpg.Pool, str], Source] = TTLCache(CACHE_SIZE, CACHE_SECONDS)


async def source_of(service: Service, key: object) -> Source | None:
    """The source with that key, if there is one."""
    if not isinstance(key, str) or len(key) != KEY_LENGTH or not (key.isascii() and key.isalnum()):
        return None
    kept = _known.get((service.pool, key))
    if kept is not None:
        return kept
    since = time.monotonic()
    async with service.pool.acquire() as tx:
        found = await sources.of_key(tx, service.vault, key)
    if found is not None:
        _known.put((service.pool, key), found, since)
    return found


async def of_path(service: Service, key: str) -> Source:
    """Raises `Refused` (404)."""
    found = await source_of(service, key)
    if found is None:
        raise Refused(404, "source_not_found", UNKNOWN)
    return found


async def of_header(service: Service, authorization: str | None) -> Source:
    """The source whose key is a bearer token, or the password of basic authentication. Raises `Refused` (401)."""
    found = await source_of(service, _given(authorization or ""))
    if found is None:
        headers = {"WWW-Authenticate": "Bearer"}
        raise Refused(401, "unauthorized", f"{UNKNOWN}, to be sent as Bearer token", headers=headers)
    return found


def _given(authorization: str) -> str | None:
    scheme, _, rest = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() != "basic" or len(rest) > 4 * KEY_LENGTH + 1000:
        return None
    try:
        return b64decode(rest.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
