"""Serves the agent as one file, for machines without Tocsin; it knows the address that it was downloaded from."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

from litestar import Response, get

from tocsin import __version__
from tocsin.web.session import Service

HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
INSTALLED, TRIED = "/usr/local/lib/tocsin-agent.py", "/run/tocsin-agent.py"
GAPS = ('SERVICE = ""', 'VERSION = ""')


@get("/agent", include_in_schema=False)
async def agent(service: Service) -> Response[str]:
    """Public: it contains no secret; whoever runs it supplies the token."""
    return Response(text_for(service.public_url), media_type="text/x-python", headers=HEADERS)


@get("/agent.sha256", include_in_schema=False)
async def checksum(service: Service) -> Response[str]:
    """The hash of that file, as sha256sum(1) writes it: what `--update` compares."""
    found = hashlib.sha256(text_for(service.public_url).encode()).hexdigest()
    return Response(f"{found}  tocsin-agent.py\n", media_type="text/plain", headers=HEADERS)


@cache
def text_for(url: str) -> str:
    """The file, with the address that it reports to and its version filled in."""
    text = resources.files("tocsin").joinpath("web/static/agent.py").read_text(encoding="utf-8")
    for gap, value in zip(GAPS, (url, __version__), strict=True):
        assert text.count(gap) == 1
        text = text.replace(gap, gap.replace('""', repr(value)))
    return text


def lines(url: str, token: str | None, *, install: bool) -> str:
    """What to paste on the machine: one POSIX shell command. Without a token it has a placeholder for it.

    The token is passed by a here-document on standard input, because everybody on the machine can read command lines.
    The program is written where only root can write.
    """
    file, more = (INSTALLED, " --install") if install else (TRIED, "")
    run = f"curl -fsS {url}/agent > {file} && python3 {file}{more} --token-file -"
    return f"sudo sh -c '{run}' <<'END'\n{token or 'YOUR_TOKEN'}\nEND"


routes = [agent, checksum]
