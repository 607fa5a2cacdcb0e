"""Shapes that all nouns share: times, pages, errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Generic, TypeVar, overload

import msgspec
from litestar.params import Parameter

from tocsin.storage.notifying.dependencies import Parent

Item = TypeVar("Item")

CODE, VISIBLE = r"^[!-~]+$(?!\n)", r"\S"
GRADE = r"^(?:critical|warning|info)$(?!\n)"
PATTERNS = {
    GRADE: "must be critical, warning or info",
    CODE: "must be of ASCII letters, digits and punctuation, without spaces",
    VISIBLE: "must not be blank",
}
"""Patterns of text, with their error messages."""

PER_PAGE, LARGEST_PAGE = 25, 100
LAST_PAGE = 10_000_000
"""More pages than any list has, but within the database's integers."""


@overload
def seconds(moment: datetime) -> str: ...
@overload
def seconds(moment: None) -> None: ...
def seconds(moment: datetime | None) -> str | None:
    """`2024-01-01T00:00:00Z`: the time format of the specification's resources."""
    return None if moment is None else _seconds(moment)


@lru_cache(maxsize=64)  # everything opened in one commit has one time
def _seconds(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")[:19] + "Z"


@overload
def millis(moment: datetime) -> str: ...
@overload
def millis(moment: None) -> None: ...
def millis(moment: datetime | None) -> str | None:
    """`2024-01-01T00:00:00.123Z`: the time format of deliveries."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds")[:23] + "Z"


class Explanation(msgspec.Struct):
    """A resource that is down, and so explains that another is unreachable."""

    uuid: str
    name: str


def explanations(found: Sequence[Parent]) -> list[Explanation]:
    return [Explanation(each.uuid, each.name) for each in found]


class Meta(msgspec.Struct):
    """Which page this is, and how many there are."""

    current_page: int
    per_page: int
    total_pages: int
    total_count: int


class Listed(msgspec.Struct, Generic[Item]):
    """One page of a list."""

    data: list[Item]
    meta: Meta


@dataclass(frozen=True, slots=True)
class Page:
    """The page that a caller requests: `LIMIT page.per_page OFFSET page.offset`."""

    number: int = 1
    per_page: int = PER_PAGE

    @property
    def offset(self) -> int:
        return (self.number - 1) * self.per_page

    def meta(self, total: int) -> Meta:
        """The metadata of the page, given the total."""
        return Meta(self.number, self.per_page, -(-total // self.per_page), total)


def asked_page(
    page: Annotated[int, Parameter(ge=1, le=LAST_PAGE, description="Which page, from 1.")] = 1,
    per_page: Annotated[
        int, Parameter(ge=1, le=2**31 - 1, description="How many on a page; more than 100 count as 100.")
    ] = PER_PAGE,
) -> Page:
    """The dependency `asked: Page` of every handler that lists."""
    return Page(page, min(per_page, LARGEST_PAGE))


class Detail(msgspec.Struct):
    """One field that was rejected."""

    field: str
    message: str


class Error(msgspec.Struct):
    """What is wrong and what to do."""

    error: str
    message: str
    details: list[Detail]
