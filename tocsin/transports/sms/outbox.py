"""The outbox folder instead of a provider: one file for each text message, for testing."""

from __future__ import annotations

import asyncio
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import structlog

from tocsin.settings import Settings
from tocsin.transports.sms import Accepted, Provider, SmsRefused

log = structlog.get_logger(__name__)


class Outbox(Provider):
    name: ClassVar[str] = "outbox"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def from_settings(cls, settings: Settings) -> Outbox | None:
        return cls(settings.outbox) if settings.sms == "outbox" else None

    async def send(self, number: str, text: str, reports_to: str | None) -> Accepted:
        try:
            path = await asyncio.to_thread(_write, self._folder, number, text)
        except OSError as error:
            raise SmsRefused(f"The outbox {self._folder} cannot be written: {error.strerror}") from error
        log.info("TOCSIN_SMS_PROVIDER is outbox: a text message was written there", path=str(path), to=number)
        return Accepted("", None, f"Written to the outbox: {path.name}")

    async def check(self) -> str:
        return f"TOCSIN_SMS_PROVIDER is outbox: text messages are written to {self._folder}, for testing"


def _write(folder: Path, number: str, text: str) -> Path:
    """Write one message to one file, atomically, readable by its owner alone; names sort by time."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    path = folder / f"sms-{moment}-{os.urandom(3).hex()}.txt"
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"To: {number}\n\n{text}\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
