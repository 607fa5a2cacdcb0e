"""Authentication: from the `Authorization` header to the caller and project, or an error."""

from __future__ import annotations

import time
from uuid import UUID

import asyncpg

from tocsin.actions.base import MEMBERS, Actor, require
from tocsin.api.service import Service
from tocsin.domain.errors import Refused, forbidden_state
from tocsin.domain.ttl_cache import TTLCache
from tocsin.storage import audit
from tocsin.storage.accounts import accounts

TOKEN_CACHE_SECONDS = 1.0
"""Seconds for which a process caches the owner of a token."""

TOKEN_CACHE_SIZE = 10_000
MAX_TOKEN_LENGTH = 200
READING = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_HEADER_LENGTH = MAX_TOKEN_LENGTH + len("Bearer ")
"""Maximum length of a cached header. A longer one has extra blanks, and is looked up each time."""

_token_cache: TTLCache[tuple[asyncpg.Pool, str], Actor] = TTLCache(TOKEN_CACHE_SIZE, TOKEN_CACHE_SECONDS)


async def caller_of(authorization: str | None, service: Service, *, reading: bool = False) -> Actor:
    """The caller for the value of the `Authorization` header: `Bearer TOKEN`, or the agent's bare `TOKEN`.

    Raises `Refused`: 401 without a valid token, 403 for readers unless the request is for `reading`: actions
    would refuse it too, but only after the body.
    """
    if authorization is None:
        raise unauthorized()
    caller = _token_cache.get((service.pool, authorization)) or await _look_up(authorization, service)
    if not reading:
        require(caller, MEMBERS)
    return caller


async def _look_up(authorization: str, service: Service) -> Actor:
    # The age counts from before the query, so that a result from just before a rotation is not cached longer.
    since = time.monotonic()
    found = await _found(authorization, service)
    if found.project_id is None:
        raise forbidden_state("You are not a member of any project; ask a project's owner to invite you")
    name = found.user_id or audit.API_TOKEN
    caller = Actor(found.project_id, found.role, name, found.plan, found.user_id)
    # A user's token is not cached: after a switch to another project it must not act on the old one.
    if caller.user_id is None and len(authorization) <= MAX_HEADER_LENGTH:
        _token_cache.put((service.pool, authorization), caller, since)
    return caller


async def user_of(authorization: str | None, service: Service) -> UUID:
    """The user whose token it is. Raises `Refused` (401) for a project's token too. Never cached."""
    found = await _found(authorization, service)
    if found.user_id is None:
        raise unauthorized("This needs a user's token, not a project's: sign in with POST /api/v1/users/sign_in")
    return found.user_id


async def _found(authorization: str | None, service: Service) -> accounts.TokenOwner:
    token = token_in(authorization)
    if token is None:
        raise unauthorized()
    async with service.pool.acquire() as tx:
        found = await accounts.caller_of_token(tx, service.vault, token)
    if found is None:
        raise unauthorized()
    return found


def token_in(authorization: str | None) -> str | None:
    """The token in the header's value, with the word `Bearer` (in any case) or without; None if there is none."""
    words = (authorization or "").split()
    if len(words) == 2 and words[0].lower() == "bearer":
        del words[0]
    if len(words) != 1 or words[0].lower() == "bearer" or len(words[0]) > MAX_TOKEN_LENGTH:
        return None
    return words[0]


def unauthorized(message: str = "Invalid or missing authentication token: send Authorization: Bearer TOKEN") -> Refused:
    return Refused(401, "unauthorized", message, headers={"WWW-Authenticate": "Bearer"})
