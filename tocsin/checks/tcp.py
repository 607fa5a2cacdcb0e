"""`tcp`: something accepts connections there."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import perf_counter
from urllib.parse import urlsplit

from tocsin.checks.base import CheckType, Wires
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
            url = urlsplit(target.url)
            host, port = url.hostname, url.port
        except ValueError:
            raise invalid_field("url", shape) from None
        if url.scheme != "tcp" or not host or not port or url.path not in ("", "/") or url.query or url.fragment:
            raise invalid_field("url", shape)
        if url.username is not None or any(c.isspace() or not c.isprintable() for c in target.url):
            raise invalid_field("url", shape)
        if target.keyword is not None:
            raise invalid_field("keyword", "is for http checks only: a tcp check reads nothing")
        if target.expected_status is not None:
            raise invalid_field("expected_status", "is for http checks only: a tcp check reads nothing")
        return replace(target, url=f"tcp://{url.netloc}")

    async def check(self, target: Target, wires: Wires) -> Result:
        url = urlsplit(target.url)
        assert url.hostname
        assert url.port
        began = perf_counter()
        transport, _ = await wires.dialer.connect(asyncio.Protocol, url.hostname, url.port)
        transport.close()
        return Result(response_ms=(perf_counter() - began) * 1000)

    def evidence(self, target: Target, wires: Wires) -> Evidence:
        return Evidence(request=f"CONNECT {target.url}")
