"""Asks registries about domains (RFC 7480): GET, few redirects, a bounded answer, in bounded time."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from tocsin.domain import rdap, urls
from tocsin.domain.deliveries import ATTEMPT_TIMEOUT
from tocsin.transports.guard import EVERYWHERE, Guard
from tocsin.transports.http import REDIRECTS, Answer, Http, Unreachable, retry_after

ANSWER_LIMIT = 256 << 10
"""Bytes of an answer; the list of services had some 50,000 in 2025."""
MAX_REDIRECTS = 3
MOST_IDLE = 8
PAUSE, MIN_PAUSE, MAX_PAUSE = timedelta(hours=1), timedelta(minutes=1), timedelta(days=7)
"""How long a service is left alone that says 429 without saying for how long, and the bounds of what it says."""


class RdapFailed(Exception):
    """There is no usable answer. The text says why in one line.

    `unknown`: the service does not know the domain. `pause`: it wants to be left alone for so long.
    """

    def __init__(self, message: str, *, unknown: bool = False, pause: timedelta | None = None) -> None:
        super().__init__(message)
        self.unknown = unknown
        self.pause = pause


class Rdap:
    """For one event loop. The list of services is where the operator says; what it names goes through the guard."""

    def __init__(self, bootstrap_url: str, guard: Guard, user_agent: str) -> None:
        self._bootstrap_url = bootstrap_url
        self._user_agent = user_agent
        self._operators = _http(Guard(EVERYWHERE))
        self._others = _http(guard)

    async def services(self) -> dict[str, str]:
        """Which services there are (RFC 9224). Raises `RdapFailed`."""
        answer = await self._get(self._operators, self._bootstrap_url, "application/json")
        if answer.status != 200:
            raise RdapFailed(f"it answered with status {answer.status}")
        try:
            return await asyncio.to_thread(rdap.services, answer.text.encode())
        except rdap.Unreadable as error:
            raise RdapFailed(f"its answer {error}") from None

    async def domain(self, service: str, name: str) -> rdap.Answer:
        """What a service says of a domain. Raises `RdapFailed`."""
        answer = await self._get(self._others, rdap.address(service, name), rdap.MEDIA_TYPE)
        match answer.status:
            case 200:
                pass
            case 404:
                raise RdapFailed("its registry does not know it: it is not registered", unknown=True)
            case 429:
                raise RdapFailed("its registry says that it is asked too often", pause=_pause(answer))
            case status:
                raise RdapFailed(f"its registry answered with status {status}")
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in rdap.MEDIA_TYPES:
            raise RdapFailed(f"its registry answered with {media_type[:100] or 'no type'}, not {rdap.MEDIA_TYPE}")
        try:
            return await asyncio.to_thread(rdap.read, answer.text.encode(), name)
        except rdap.Unreadable as error:
            raise RdapFailed(f"what its registry answered {error}") from None

    async def close(self) -> None:
        await self._operators.close()
        await self._others.close()

    async def _get(self, http: Http, url: str, accept: str) -> Answer:
        """The whole answer, after redirects."""
        headers = {"Accept": accept, "User-Agent": self._user_agent}
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT):
                for _ in range(MAX_REDIRECTS + 1):
                    answer = await http.request("GET", url, b"", headers)
                    location = answer.headers.get("location") if answer.status in REDIRECTS else None
                    if location is None:
                        break
                    url = urls.follow(url, location.encode("latin-1"))
                else:
                    raise RdapFailed(f"it redirected more than {MAX_REDIRECTS} times")
        except TimeoutError:
            raise RdapFailed(f"no answer within {ATTEMPT_TIMEOUT:g} seconds") from None
        except Unreachable as error:
            raise RdapFailed(f"it cannot be asked: {error}") from None
        except ValueError:
            raise RdapFailed("it redirected to what cannot be followed") from None
        if answer.status == 200 and not answer.complete:
            raise RdapFailed(f"its answer was not complete within {ANSWER_LIMIT >> 10} KiB and {ATTEMPT_TIMEOUT:g} s")
        return answer


def _http(guard: Guard) -> Http:
    return Http(guard, keep=ANSWER_LIMIT, patience=ATTEMPT_TIMEOUT, most_idle=MOST_IDLE)


def _pause(answer: Answer) -> timedelta:
    wait = retry_after(answer.headers.get("retry-after"), time.time())
    return PAUSE if wait is None else min(max(timedelta(seconds=wait), MIN_PAUSE), MAX_PAUSE)
