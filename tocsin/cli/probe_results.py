"""What a probe has seen and not sent yet: numbered, and kept for an hour within bounds."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any

import msgspec
import structlog

from tocsin.domain import names
from tocsin.domain.incidents import Evidence, truncated_message
from tocsin.domain.monitors import Result

log = structlog.get_logger(__name__)

KEEP = 3_600.0
"""Seconds."""
MAX_KEPT, MAX_BYTES = 100_000, 64 << 20
BATCH, BATCH_BYTES = 500, 512 << 10
MAX_EVIDENCE = 8_000
MAX_HEADERS = 100


@dataclass(frozen=True, slots=True)
class Kept:
    """A result as it is sent."""

    seq: int
    uuid: str
    version: str
    since: float
    body: bytes


class Results:
    """Those that are not known to be stored, oldest first. `some` is set while there are any."""

    def __init__(self) -> None:
        self.some = asyncio.Event()
        self._kept: deque[Kept] = deque()
        self._bytes = 0
        self._seq = 0
        self._begun = False
        self._most = BATCH
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._kept)

    def begin(self, next_seq: int) -> bool:
        """The service expects that number next. Returns whether somebody else has sent what we have not."""
        others = self._begun and next_seq > self._seq + 1
        self._seq, self._begun = max(self._seq, next_seq - 1), True
        return others

    def add(self, uuid: str, version: str, round_: int, at: datetime, result: Result) -> None:
        self._seq += 1
        body = msgspec.json.encode(_said(self._seq, uuid, version, round_, at, result))
        self._kept.append(Kept(self._seq, uuid, version, monotonic(), body))
        self._bytes += len(body)
        self._shorten()
        self.some.set()

    def batch(self) -> list[Kept]:
        """The oldest ones, as many as go into one request."""
        self._shorten()
        found: list[Kept] = []
        size = 0
        for each in self._kept:
            size += len(each.body)
            if found and (len(found) >= self._most or size > BATCH_BYTES):
                break
            found.append(each)
        if not found:
            self.some.clear()
        return found

    def accepted(self, seq: int) -> None:
        """All up to that number are stored."""
        self._most = min(BATCH, 2 * self._most)
        while self._kept and self._kept[0].seq <= seq:
            self._drop()
        if self._dropped:
            log.warning("Results were dropped while the service was away", count=self._dropped)
            self._dropped = 0
        if not self._kept:
            self.some.clear()

    def refused(self, batch: list[Kept], why: str) -> None:
        """The service will never take these as they are: send fewer at once, and leave out the one that it is."""
        if len(batch) > 1:
            self._most = len(batch) // 2
            return
        log.warning("The service refuses a result", monitor=batch[0].uuid, error=why)
        self._most = BATCH
        if self._kept and self._kept[0] is batch[0]:
            self._drop()

    def _shorten(self) -> None:
        oldest = monotonic() - KEEP
        while self._kept and (
            len(self._kept) > MAX_KEPT or self._bytes > MAX_BYTES or self._kept[0].since < oldest
        ):  # fmt: skip
            self._drop()
            self._dropped += 1

    def _drop(self) -> None:
        self._bytes -= len(self._kept.popleft().body)


def _said(seq: int, uuid: str, version: str, round_: int, at: datetime, result: Result) -> dict[str, Any]:
    findings = None if result.findings is None else [
        {"type": each.type, "severity": each.severity, "message": truncated_message(each.message),
         "fingerprint": each.fingerprint, "details": dict(each.details)} for each in result.findings[:20]
    ]
    return {
        "seq": seq, "uuid": uuid, "version": version, "round": round_, "at": at.isoformat(),
        "problem": result.problem, "message": None if result.message is None else truncated_message(result.message),
        "status_code": result.status_code, "response_ms": result.response_ms, "findings": findings,
        "evidence": None if result.ok or result.evidence is None else _evidence(result.evidence),
    }  # fmt: skip


def _evidence(seen: Evidence) -> dict[str, Any]:
    def cut(text: str | None) -> str | None:
        return None if text is None else names.cut(text.replace("\0", ""), MAX_EVIDENCE)

    def cut_all(headers: Any) -> dict[str, str] | None:
        return headers and {name: str(cut(value)) for name, value in list(headers.items())[:MAX_HEADERS]}

    return {
        "request": cut(seen.request), "request_headers": cut_all(seen.request_headers),
        "response": cut(seen.response), "response_headers": cut_all(seen.response_headers),
    }  # fmt: skip
