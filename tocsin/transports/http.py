"""HTTP outwards on behalf of projects: posts over kept connections, guarded, bounded, and told in plain words."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import aiohttp
from yarl import URL

from tocsin.domain.deliveries import RESPONSE_LIMIT, TRY_TIMEOUT
from tocsin.transports.guard import BLOCKED_ERRNO, Guard

DNS_TTL = 30
"""Seconds that a looked-up name is kept."""

# Shorter than the 5 s after which common servers drop an idle connection: a post that meets that moment would be lost.
KEEP_IDLE = 4.5

_AUTOMATIC_HEADERS = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")

_url = lru_cache(maxsize=4096)(URL)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a destination answered: `text` is at most the first 2 KB of its body, without NUL."""

    status: int
    headers: Mapping[str, str]
    text: str


class Unreachable(Exception):
    """There was no answer; the text says why in one line and names no more of the URL than host and port.

    `refused` means that the address may not be reached at all, so that trying again helps nobody.
    """

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class Http:
    """One pool of connections, for one event loop. Keeps no cookies, follows no redirect, obeys no proxy variable."""

    def __init__(self, guard: Guard, *, tls: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post `body` with exactly `headers` (and what HTTP needs); the answer within 10 seconds, whatever its status.

        Raises `Unreachable`.
        """
        session = self._session or self._open()
        try:
            response = await session.post(_url(url), data=body, headers=headers, allow_redirects=False)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _unreachable(error) from error
        try:
            kept = await _read(response)
        finally:
            response.release()
        return Answer(response.status, response.headers, kept.decode("utf-8", "replace").replace("\x00", ""))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        # Opened at the first post, because a session belongs to the event loop that runs then.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                ttl_dns_cache=DNS_TTL,
                keepalive_timeout=KEEP_IDLE,
                socket_factory=self._guard.socket,
                ssl=self._tls or True,
            ),
            timeout=aiohttp.ClientTimeout(total=TRY_TIMEOUT),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_AUTOMATIC_HEADERS,
            auto_decompress=False,
            trust_env=False,
        )
        return self._session


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The start of the body. A body that breaks off changes nothing: the destination has given its status."""
    kept = b""
    try:
        while not response.content.at_eof():
            chunk = await response.content.readany()
            kept += chunk
            if len(kept) > RESPONSE_LIMIT:
                response.close()
                break
    except (aiohttp.ClientError, OSError):
        response.close()
    return kept[:RESPONSE_LIMIT]


def _unreachable(error: Exception) -> Unreachable:
    match error:
        case TimeoutError():
            return Unreachable(f"No answer within {TRY_TIMEOUT:g} seconds")
        case aiohttp.InvalidURL():
            return Unreachable("The address cannot be used: its host is not a name or a usual address", refused=True)
        case aiohttp.ClientConnectorDNSError():
            return Unreachable(_not_resolved(error.host, error.os_error))
        case aiohttp.ClientConnectorCertificateError():
            return Unreachable(f"TLS: {_certificate(error.certificate_error)}")
        case aiohttp.ClientConnectorSSLError():
            return Unreachable(f"TLS: {_tls(error.os_error)}")
        case aiohttp.ClientConnectorError():
            return _not_connected(f"{_bracketed(error.host)}:{error.port}", error.os_error)
        case aiohttp.ServerDisconnectedError() | ConnectionError() | aiohttp.ClientOSError():
            return Unreachable("Connection was closed before an answer")
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            return Unreachable("The answer is not HTTP")
    return Unreachable(f"The call failed ({type(error).__name__})")


def _not_resolved(host: str, error: OSError) -> str:
    if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None)):
        return f"Name not found: {host}"
    return f"Name cannot be looked up at present: {host}"


def _not_connected(target: str, error: OSError) -> Unreachable:
    if error.errno == BLOCKED_ERRNO:
        return Unreachable((error.strerror or "").removeprefix("Multiple exceptions: "), refused=True)
    match error.errno:
        case errno.ECONNREFUSED:
            return Unreachable(f"Connection refused by {target}")
        case errno.ENETUNREACH | errno.EHOSTUNREACH:
            return Unreachable(f"No route to {target}")
        case errno.ETIMEDOUT:
            return Unreachable(f"No connection to {target} in time")
        case errno.ECONNRESET | errno.EPIPE:
            return Unreachable("Connection was closed before an answer")
    reason = errno.errorcode.get(error.errno or 0, "several reasons")
    return Unreachable(f"No connection to {target} ({reason})")


def _certificate(error: Exception) -> str:
    return str(getattr(error, "verify_message", "") or "the certificate does not fit the name")


def _tls(error: OSError) -> str:
    reason = str(getattr(error, "reason", "") or "")
    return reason.replace("_", " ").lower() or "the handshake failed"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
