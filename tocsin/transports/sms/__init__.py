"""Outgoing SMS: each file next to this one is one provider, chosen by the operator's settings."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from tocsin.domain import phones
from tocsin.settings import Settings


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider accepted it. `id` is the provider's id for it, used in later reports."""

    id: str
    status_code: int | None
    response: str


@dataclass(frozen=True, slots=True)
class Report:
    """A provider's later report on a message that it accepted: `error` is None if it was delivered."""

    id: str
    response: str
    error: str | None


@dataclass(frozen=True, slots=True)
class Reply:
    """A text message that somebody sent to us, from a number in E.164 form."""

    number: str
    text: str


class SmsRefused(Exception):
    """The message was not accepted; the text says why in one line. The fields are those of `Failed`."""

    def __init__(
        self,
        message: str,
        retry: Literal["scheduled", "twice", "never"] = "scheduled",
        status_code: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.retry = retry
        self.status_code = status_code
        self.retry_after = retry_after


class InvalidSignature(Exception):
    """A report that does not come from the provider."""


class Provider(ABC):
    """A provider that sends SMS. It belongs to one event loop."""

    name: ClassVar[str]
    """Its name for people."""

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: Settings) -> Provider | None:
        """The provider, if the settings select it."""

    @abstractmethod
    async def send(self, number: str, text: str, reports_to: str | None) -> Accepted:
        """Hand in `text` for a number in E.164 form; ends within `ATTEMPT_TIMEOUT` seconds. Raises `SmsRefused`.

        `reports_to` is the URL for the provider's reports, if there is one.
        """

    @abstractmethod
    async def check(self) -> str:
        """Test everything except sending. Returns what worked, as text. Raises `SmsRefused`."""

    def report(self, url: str, headers: Mapping[str, str], body: bytes) -> Report | None:
        """What the provider reported to `reports_to`; None if it is not final. Header names are in lower case.

        Raises `InvalidSignature`.
        """
        raise InvalidSignature

    def reply(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """What the provider passed on to `url`. Header names are in lower case. Raises `InvalidSignature`."""
        raise InvalidSignature

    def answer(self, text: str | None) -> tuple[str, str]:
        """The response to that, by which the provider sends `text` back, or nothing; and its media type."""
        raise NotImplementedError

    async def close(self) -> None:  # noqa: B027  (most have nothing to close)
        """Close its connections."""


@dataclass(frozen=True, slots=True)
class SmsSender:
    """The provider, and the operator's settings for it. `report_url` is where it sends reports, `reply_url`
    what people reply.
    """

    provider: Provider
    countries: tuple[str, ...] = ()
    report_url: str | None = None
    reply_url: str | None = None

    async def send(self, number: str, text: str, delivery_id: str | None = None) -> Accepted:
        """Hand in `text`; reports, if any, will name the delivery. Raises `SmsRefused`."""
        if refusal := phones.outside(number, self.countries):
            raise SmsRefused(f"{number} {refusal}", "never")
        reports_to = f"{self.report_url}/{delivery_id}" if self.report_url and delivery_id else None
        return await self.provider.send(number, text, reports_to)

    async def close(self) -> None:
        await self.provider.close()


REPORT_PATH, REPLY_PATH = "/sms/reports", "/sms/replies"


def sms_sender(settings: Settings) -> SmsSender | None:
    """The sender that the settings select, or None where SMS is off.

    Reports are requested only if TOCSIN_PUBLIC_URL is set: the provider can reach no other address of ours.
    """
    if settings.sms is None:
        return None
    for found in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{found.name}")
    report_url, reply_url = [
        f"{settings.public_url}{path}" if settings.public_url else None for path in (REPORT_PATH, REPLY_PATH)
    ]
    for kind in Provider.__subclasses__():
        provider = kind.from_settings(settings)
        if provider is not None:
            return SmsSender(provider, settings.sms_countries, report_url, reply_url)
    return None
