"""What is wrong with an answer that could be read: its status, its page, its JSON, its time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tocsin.checks.http_options import Options
from tocsin.domain import json_answers, page_text
from tocsin.domain.json_paths import Unselectable
from tocsin.domain.monitors import Problem, is_expected, worded
from tocsin.domain.names import cut
from tocsin.transports.content_encoding import Undecodable, codings, decoded
from tocsin.transports.response import Response
from tocsin.transports.visit import BODY_LIMIT

QUICKLY_SEARCHED = 32 << 10
"""Bytes of a body that are searched on the event loop; a longer or compressed one, and JSON, in a thread."""
EXCERPT = 4_000
"""Characters of a body that are shown to whoever tries a check."""
MAX_SHOWN = 100

Found = tuple[Problem, str]


async def problem(response: Response, options: Options) -> Found | None:
    """What is wrong with it, apart from its time."""
    if not is_expected(response.status, options.expected_status):
        return "http_status", f"HTTP status {response.status}, expected {worded(options.expected_status)}"
    packed = response.codings
    if options.reads_body:
        packed += codings(*response.all_of(b"content-encoding"))
    if not packed and not options.reads_body:
        return None
    if packed or options.json_path is not None or len(response.body) > QUICKLY_SEARCHED:
        return await asyncio.to_thread(_of_body, response, packed, options)
    return _of_body(response, packed, options)


def slow(took: float, options: Options) -> Found | None:
    """Whether it took too long, in seconds."""
    most = options.max_response_ms
    if most is None or took * 1000 <= most:
        return None
    return "slow", (
        f"The answer was good, but took {took * 1000:,.0f} ms, more than {most:,} ms: "
        "find out what the site waits for, or allow it more (max_response_ms)"
    )


def is_enough(response: Response, options: Options) -> bool:
    """A stream is fine as it is, or as soon as it has sent the keyword. JSON has to be whole."""
    if options.json_path is not None:
        return False
    if options.keyword is None:
        return True
    body, content_type = bytes(response.body), response.header(b"content-type") or b""
    return page_text.spelled(options.keyword, body, content_type) in body


async def excerpt(response: Response) -> str:
    """The start of the body as text."""
    packed = response.codings + codings(*response.all_of(b"content-encoding"))
    try:
        body, _ = await asyncio.to_thread(decoded, bytes(response.body), packed, 4 * EXCERPT)
    except Undecodable as error:
        return f"({error})"
    codec, mark = page_text.charset(body, response.header(b"content-type") or b"")
    return body[mark : 4 * EXCERPT].decode(codec, "replace").replace("\x00", "�")[:EXCERPT]


def _of_body(response: Response, packed: Sequence[bytes], options: Options) -> Found | None:
    try:
        page, whole = decoded(bytes(response.body), packed, BODY_LIMIT)
    except Undecodable as error:
        if options.keyword is not None:
            return "keyword", f"Keyword {options.keyword!r} not found: {error}"
        return "content" if options.reads_body else "connection_error", f"The answer cannot be read: {error}"
    content_type = response.header(b"content-type") or b""
    if options.keyword is not None and not page_text.contains(page, content_type, options.keyword):
        where = ""
        if response.full or len(page) >= BODY_LIMIT:
            where = f" in the first {BODY_LIMIT >> 20} MiB"
        elif not whole:
            where = " in what could be unpacked: the body breaks off"
        return "keyword", f"Keyword {options.keyword!r} not found{where}"
    if options.keyword_absent is not None and page_text.contains(page, content_type, options.keyword_absent):
        return "content", f"The page contains {options.keyword_absent!r}, which it must not (keyword_absent)"
    return _of_json(page, options.json_path, options.json_value) if options.json_path is not None else None


def _of_json(page: bytes, path: str, wanted: str | int | float | bool | None) -> Found | None:
    try:
        found = json_answers.select(page, path)
    except Unselectable as error:
        return "content", f"{path} cannot be looked for in the answer: {error}"
    if not found:
        return "content", f"{path} selects nothing in the answer: look whether its JSON has changed"
    if wanted is None:
        return None
    for value in found:
        if not json_answers.equals(value, wanted):
            shown = cut(json_answers.spelled(value), MAX_SHOWN)
            return "content", f"{path} is {shown}, expected {json_answers.spelled(wanted)}"
    return None
