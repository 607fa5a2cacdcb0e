"""`tcp`: something accepts connections there."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import perf_counter

from tocsin.checks.base import CheckContext, CheckType
from tocsin.domain import urls
from tocsin.domain.errors import invalid_field
from tocsin.domain.incidents import Evidence
from tocsin.domain.monitors import Result, Target


class Tcp(CheckType):
    check_type = "tcp"
    schemes = frozenset(("tcp",))

    def validate(self, target: Target) -> Target:
        """`tcp://host:port`, nothing more."""
        shape = "must have the form tcp://host:port"
        try:
            url = urls.read(target.url)
        except ValueError as error:
            raise invalid_field("url", f"{shape}: {error}") from None
        authority = target.url.partition("://")[2].removesuffix("/")
        if url.scheme != "tcp" or not url.port or url.has_login or any(mark in authority for mark in "/?#"):
            raise invalid_field("url", shape)
        return replace(target, url=f"tcp://{authority}")

    async def check(self, target: Target, context: CheckContext) -> Result:
        url = urls.read(target.url)
        began = perf_counter()
        transport, _ = await context.dialer.connect(asyncio.Protocol, url.host, url.port)
        transport.close()
        return Result(response_ms=(perf_counter() - began) * 1000)

    def evidence(self, target: Target, context: CheckContext) -> Evidence:
        return Evidence(request=f"CONNECT {target.url}")
