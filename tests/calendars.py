"""Reads a calendar as strictly as RFC 5545 writes it: lines, folding, escapes, and what an event must have."""

from __future__ import annotations

import re
from typing import Any

LINE = re.compile(r"([A-Z0-9-]+)((?:;[A-Z0-9-]+=[^;:]*)*):(.*)", re.DOTALL)
UTC = re.compile(r"\d{8}T\d{6}Z")


def read(body: bytes) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The properties of the calendar, and of each of its events. Asserts what section 3 requires."""
    assert body.endswith(b"\r\n")
    folded = body[:-2].split(b"\r\n")
    assert all(len(line) <= 75 for line in folded), "3.1: lines of more than 75 octets are folded"
    assert b"\n" not in body.replace(b"\r\n", b""), "3.1: lines end with CRLF"
    lines: list[bytes] = []
    for line in folded:
        if line.startswith((b" ", b"\t")):
            lines[-1] += line[1:]
        else:
            lines.append(line)
    about: dict[str, str] = {}
    events: list[dict[str, Any]] = []
    inside: list[str] = []
    for line in lines:
        match = LINE.fullmatch(line.decode("utf-8"))
        assert match, line
        name, _, value = match.groups()
        if name == "BEGIN":
            inside.append(value)
            if value == "VEVENT":
                events.append({})
        elif name == "END":
            assert inside.pop() == value
        else:
            place = events[-1] if inside == ["VCALENDAR", "VEVENT"] else about
            assert name not in place, f"{name} must not occur twice"
            place[name] = _text(value) if name in ("SUMMARY", "DESCRIPTION", "NAME", "X-WR-CALNAME") else value
    assert inside == []
    assert about["VERSION"] == "2.0", "3.6: VERSION and PRODID are required"
    assert about["PRODID"]
    for event in events:
        assert event["UID"], "3.6.1: UID and DTSTAMP are required"
        for moment in ("DTSTAMP", "DTSTART", "DTEND"):
            assert UTC.fullmatch(event[moment]), event[moment]
        assert event["DTEND"] > event["DTSTART"], "3.8.2.2"
    assert len({event["UID"] for event in events}) == len(events), "3.8.4.7: UIDs are unique"
    return about, events


def _text(value: str) -> str:
    assert not re.search(r"(?<!\\)(?:\\\\)*[,;]", value), "3.3.11: commas and semicolons are escaped"
    return re.sub(r"\\([\\;,nN])", lambda found: "\n" if found[1] in "nN" else found[1], value)
