"""Text messages outwards: one file beside this is one provider, chosen by the operator's settings."""

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
    """The provider has it. `id` is the provider's own name for it, by which it may report later."""

    id: str
    status_code: int | None
    response: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a provider says later of a message that it had taken: `error` is None where the phone has it."""

    id: str
    response: str
    error: str | None


class SmsRefused(Exception):
    """The message was not taken; the text says why in one line. The fields are those of `Failed`."""

    def __init__(
        self,
        message: str,
        retry: Literal["scheduled", "limited", "never"] = "scheduled",
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
    """One way by which text messages leave. It lives in one event loop."""

    name: ClassVar[str]
    """What people call it."""

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: Settings) -> Provider | None:
        """The provider, where the settings ask for it."""

    @abstractmethod
    async def send(self, number: str, text: str, reports_to: str | None) -> Accepted:
        """Hand in `text` for a number in E.164 form; ends within `ATTEMPT_TIMEOUT` seconds. Raises `SmsRefused`.

        `reports_to` is the address at which the provider may report what became of it, where there is one.
        """

    @abstractmethod
    async def check(self) -> str:
        """Try all but a message; what worked, in words. Raises `SmsRefused`."""

    def report(self, url: str, headers: Mapping[str, str], body: bytes) -> Report | None:
        """What the provider said at `reports_to`; None where it is no end yet. Header names are in lower case.

        Raises `InvalidSignature`.
        """
        raise InvalidSignature

    async def close(self) -> None:  # noqa: B027  (most have nothing to close)
        """Let go of its connections."""


@dataclass(frozen=True, slots=True)
class SmsSender:
    """The provider, and what the operator has settled about it. `report_url` is what its reports are addressed to."""

    provider: Provider
    countries: tuple[str, ...] = ()
    report_url: str | None = None

    async def send(self, number: str, text: str, delivery_id: str | None = None) -> Accepted:
        """Hand in `text`; reports, if any, will name the delivery. Raises `SmsRefused`."""
        if refusal := phones.outside(number, self.countries):
            raise SmsRefused(f"{number} {refusal}", "never")
        reports_to = f"{self.report_url}/{delivery_id}" if self.report_url and delivery_id else None
        return await self.provider.send(number, text, reports_to)

    async def close(self) -> None:
        await self.provider.close()


REPORT_PATH = "/sms/reports"


def sms_sender(settings: Settings) -> SmsSender | None:
    """The way that the settings choose, or None where SMS is off.

    Reports are asked for where TOCSIN_PUBLIC_URL is set: any other address of ours is not known to the provider.
    """
    if settings.sms is None:
        return None
    for found in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{found.name}")
    report_url = f"{settings.public_url}{REPORT_PATH}" if settings.public_url else None
    for kind in Provider.__subclasses__():
        provider = kind.from_settings(settings)
        if provider is not None:
            return SmsSender(provider, settings.sms_countries, report_url)
    return None
