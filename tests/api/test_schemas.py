"""Shapes that every noun shares: pages, and times."""

from __future__ import annotations

from tocsin.api.schemas import Page, millis, seconds


def test_a_page_says_where_it_begins_and_how_many_there_are() -> None:
    assert Page(3, 10).offset == 20
    assert [Page(1, 25).meta(total).total_pages for total in (0, 1, 25, 26)] == [0, 1, 1, 2]


def test_times_are_in_utc_with_a_z() -> None:
    from datetime import datetime, timedelta, timezone

    noon = datetime(2024, 1, 1, 14, 0, 0, 123_999, timezone(timedelta(hours=2)))
    assert (seconds(noon), millis(noon), seconds(None)) == ("2024-01-01T12:00:00Z", "2024-01-01T12:00:00.123Z", None)
