"""`tcp`: something accepts connections there, over TLS if that is wanted, and says what it should."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import perf_counter
from typing import Annotated

import msgspec
from msgspec import Meta

from tocsin.checks.base import CheckContext, CheckType, authority_of, host_of, own_time
from tocsin.checks.common_options import DomainDays, IpVersion
from tocsin.checks.http import check_ip_version
from tocsin.domain import urls
from tocsin.domain.errors import invalid_field
from tocsin.domain.incidents import Evidence
from tocsin.domain.monitors import Result, Target

MAX_SEND, MAX_EXPECT = 4_000, 500
READ_LIMIT = 64 << 10
"""Bytes that are read at most."""
MAX_SHOWN = 200


class Options(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is said there, and what has to be heard."""

    send: Annotated[
        str | None, Meta(description="Text that is sent once the connection is there; line ends are part of it.")
    ] = None
    expect: Annotated[
        str | None,
        Meta(description="Text that what comes back must contain, such as a banner (incident type `content`). "
             "It is no pattern."),
    ] = None  # fmt: skip
    tls: Annotated[bool, Meta(description="Whether it speaks TLS, with a certificate that is valid for it.")] = False
    ip_version: IpVersion = None
    domain_days: DomainDays = None


class Tcp(CheckType):
    check_type = "tcp"
    schemes = frozenset(("tcp",))
    options = Options

    def validate(self, target: Target) -> Target:
        """`tcp://host:port`, nothing more."""
        authority = authority_of(target.url, "tcp://host:port", port=True)
        options = msgspec.convert(target.options, Options)
        for name, text, most in (("send", options.send, MAX_SEND), ("expect", options.expect, MAX_EXPECT)):
            if text is not None and not (1 <= len(text) <= most and _can_be_sent(text)):
                raise invalid_field(name, f"must have from 1 to {most} characters, or be null")
        check_ip_version(host_of(target.url), options.ip_version)
        return replace(target, url=f"tcp://{authority}", options=msgspec.to_builtins(options))

    async def check(self, target: Target, context: CheckContext) -> Result:
        url, options = urls.read(target.url), msgspec.convert(target.options, Options)
        began = perf_counter()
        heard = _Heard((options.send or "").encode(), (options.expect or "").encode(), context.thorough)
        transport, _ = await context.dialer.connect(
            lambda: heard, url.host, url.port, tls=options.tls, ip_version=options.ip_version
        )
        try:
            if options.expect is None and not context.thorough:
                return Result(response_ms=(perf_counter() - began) * 1000, findings=())
            connected = perf_counter() - began
            patience = own_time(target.timeout) - connected if options.expect is not None else 1.0
            try:
                async with asyncio.timeout(max(patience, 0.0)):
                    await heard.ended
            except TimeoutError:
                pass
            return _result(heard, options, target, (perf_counter() if heard.found else began + connected) - began)
        finally:
            transport.abort()

    def evidence(self, target: Target, context: CheckContext) -> Evidence:
        return Evidence(request=f"CONNECT {target.url}")


def _result(heard: _Heard, options: Options, target: Target, took: float) -> Result:
    text = heard.received[:READ_LIMIT].decode("utf-8", "replace").replace("\x00", "�")
    evidence = Evidence(request=f"CONNECT {target.url}", response=_shown(text) if text else None)
    if options.expect is None or heard.found:
        return Result(None, None, took * 1000, None, evidence, (), text)
    if heard.error is not None:
        raise heard.error
    if not text and not heard.closed:
        message = f"Connected, but nothing came within {target.timeout:g} s, expected {options.expect!r}"
        return Result("timeout", message, evidence=evidence)
    came = f"{_shown(text)!r} came" if text else "it was closed without a word"
    ending = ", then it was closed" if text and heard.closed else ""
    return Result(
        "content", f"Connected, but {came}{ending}, expected {options.expect!r}: look which service listens there",
        evidence=evidence, findings=(), body=text,
    )  # fmt: skip


def _shown(text: str) -> str:
    return text[:MAX_SHOWN] + ("…" if len(text) > MAX_SHOWN else "")


def _can_be_sent(text: str) -> bool:
    """Without NUL and lone surrogates."""
    return "\x00" not in text and not any("\ud800" <= each <= "\udfff" for each in text)


class _Heard(asyncio.Protocol):
    """What came over a connection, up to a limit. `ended` is done when the expected text or the end has come."""

    def __init__(self, send: bytes, expect: bytes, thorough: bool) -> None:
        self.received = bytearray()
        self.found = self.closed = False
        self.error: Exception | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._send, self._expect, self._thorough = send, expect, thorough

    # Callbacks of the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._send:
            transport.write(self._send)  # type: ignore[attr-defined]  # uvloop's is no asyncio.WriteTransport

    def data_received(self, data: bytes) -> None:
        if self.ended.done():
            return
        searched = max(0, len(self.received) - len(self._expect))
        self.received += data[: READ_LIMIT - len(self.received)]
        if self._expect and self.received.find(self._expect, searched) >= 0:
            self.found = True
        if self.found or len(self.received) >= READ_LIMIT:
            self._end()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed, self.error = True, error
        self._end()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
