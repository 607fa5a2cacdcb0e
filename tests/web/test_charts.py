"""Charts: what they draw, and what they say in words."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from tocsin.web import charts, formatting, sparklines
from tocsin.web.charts import Line
from tocsin.web.sparklines import Day

START = datetime(2026, 11, 23, tzinfo=UTC)
END = START + timedelta(days=1)


def minutes(*values: float | None, apart: float = 5) -> list[charts.Point]:
    """Values from the beginning on, so many minutes apart; None leaves one out."""
    return [(START + timedelta(minutes=apart * at), value) for at, value in enumerate(values) if value is not None]


def drawn(*lines: Line, **options: object) -> charts.Chart:
    given: dict[str, object] = {"start": START, "end": END, "over": "24 h", "top": 100.0, **options}
    return charts.line_chart("cpu", "CPU", lines, **given)  # type: ignore[arg-type]


def parsed(svg: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def test_a_chart_says_in_words_what_it_shows() -> None:
    chart = drawn(Line("CPU", minutes(3, 95, 97, 10, 92, 12, apart=280)), threshold=90.0, alarms=2)
    assert chart.words == "CPU over 24 h: between 3 % and 97 %, now 12 %; over its threshold of 90 % twice"
    assert chart.now == "12 %"
    picture = parsed(chart.svg)
    assert picture.get("role") == "img"
    named = (picture.get("aria-labelledby") or "").split()
    texts = [each.text for each in picture if each.get("id") in named]
    assert texts == ["CPU over 24 h", chart.words]


def test_the_latest_value_is_not_called_present_when_readings_have_stopped() -> None:
    stopped = Line("CPU", minutes(3, 95, 12))
    assert "12 %" in charts.describe("CPU", [stopped], over="1 h", words=formatting.percent)
    assert "at last 12 %" in drawn(stopped).words
    assert "now 12 %" in drawn(stopped, end=START + timedelta(minutes=20)).words


def test_without_trouble_it_says_so() -> None:
    assert drawn(Line("CPU", minutes(3, 4)), threshold=90.0).words.endswith("; never over its threshold of 90 %")
    assert drawn(Line("CPU", minutes(3, 3))).words == "CPU over 24 h: always 3 %"
    assert drawn(Line("CPU", [])).words == "CPU over 24 h: no readings"
    assert "no readings" in drawn(Line("CPU", [])).svg


def test_how_often_a_threshold_was_passed_is_the_number_of_incidents() -> None:
    shaded = [(START, START + timedelta(hours=1))]
    calm, busy = Line("CPU", minutes(3, 4, apart=720)), Line("CPU", minutes(3, 95, 4, 96, 5))
    assert drawn(calm, threshold=90.0, shaded=shaded).words.endswith("now 4 %; 1 incident")
    said = drawn(calm, threshold=90.0, shaded=shaded, alarms=1).words
    assert said.endswith("now 4 %; over its threshold of 90 % once; 1 incident")
    said = drawn(busy, threshold=90.0).words
    assert said.endswith("; at times over its threshold of 90 %, without an incident")


def test_means_are_called_so_and_the_latest_value_is_no_mean() -> None:
    """A mean tells neither the least nor the latest value, nor that a threshold was never reached."""
    line = Line("CPU", minutes(64, 70, 82, apart=480))
    chart = drawn(line, threshold=90.0, means="6 min", latest=(END - timedelta(minutes=1), 88.0))
    assert chart.words == "CPU over 24 h: means of 6 min between 64 % and 82 %, now 88 %"
    assert chart.now == "88 %"
    assert drawn(line, means="3 h").words == "CPU over 24 h: means of 3 h between 64 % and 82 %, the last one 82 %"
    over = drawn(line, threshold=90.0, means="6 min", latest=(END, 99.9)).words
    assert over.endswith("now 99.9 %; at times over its threshold of 90 %, without an incident")
    same = drawn(Line("CPU", minutes(3, 3)), means="6 min", latest=(START + timedelta(minutes=9), 5.0)).words
    assert same == "CPU over 24 h: means of 6 min all 3 %, at last 5 %"
    both = drawn(Line("received", minutes(1, 2)), Line("sent", minutes(3, 3)), means="6 min").words
    assert both.endswith("received: means of 6 min between 1 % and 2 %, the last one 2 %; sent: means of 6 min all 3 %")


def test_no_label_hides_what_it_stands_beside() -> None:
    picture = parsed(drawn(Line("CPU", minutes(3, 99, 12)), Line("other", minutes(1, 2, 3)), threshold=90.0).svg)
    *before, plot = picture
    assert plot.tag.endswith("svg"), "the lines are drawn over all letters"
    [legend] = [each for each in before if each.find("tspan") is not None]
    assert "".join(legend.itertext()) == "limit 90 % CPU other"
    assert float(legend.get("y") or 0) < float(plot.get("y") or 0), "above the lines"


def test_a_line_is_broken_where_readings_are_missing() -> None:
    whole = drawn(Line("CPU", minutes(*[5.0] * 20)))
    broken = drawn(Line("CPU", minutes(*[5.0] * 10, *[None] * 10, *[5.0] * 10)))
    (one,) = re.findall(r'class="line" d="([^"]+)"', whole.svg)
    (two,) = re.findall(r'class="line" d="([^"]+)"', broken.svg)
    assert (one.count("M"), two.count("M")) == (1, 2)
    one_missed = [point for place, point in enumerate(minutes(*[5.0] * 20)) if place != 7]
    assert len(charts.unbroken(one_missed)) == 1, "one reading that is late breaks nothing"


def test_readings_lie_where_their_time_and_value_are() -> None:
    half = [(START + timedelta(hours=12), 50.0), (START + timedelta(hours=18), 100.0), (END, 0.0)]
    (path,) = re.findall(r'class="line" d="([^"]+)"', drawn(Line("CPU", half)).svg)
    assert path == "M500 100l250-100 250 200"


def test_the_threshold_is_drawn_and_incidents_are_shaded() -> None:
    shaded = [(START - timedelta(hours=1), START + timedelta(hours=12)), (END, END + timedelta(days=1))]
    chart = drawn(Line("CPU", minutes(1, 2)), threshold=90.0, shaded=shaded)
    assert 'class="threshold" d="M0 20H1000"' in chart.svg
    assert 'class="incident" x="0" width="500"' in chart.svg
    assert "2 incidents" in chart.words


def test_times_are_those_of_the_reader() -> None:
    assert re.findall(r">(\d\d:\d\d)<", drawn(Line("CPU", [])).svg) == ["04:00", "08:00", "12:00", "16:00", "20:00"]
    kolkata = drawn(Line("CPU", []), zone="Asia/Kolkata").svg
    assert re.findall(r'x="([\d.]+)%"[^>]*>(\d\d:\d\d)<', kolkata)[0] == ("10.4", "08:00")
    week = drawn(Line("CPU", []), start=END - timedelta(days=7)).svg
    assert re.findall(r">([A-Z][a-z][a-z])<", week) == ["Wed", "Thu", "Fri", "Sat", "Sun", "Mon"]


def test_nothing_but_classes_and_geometry_is_in_a_chart() -> None:
    pictures = (
        drawn(Line("CPU", minutes(3, 97)), threshold=90.0).svg, sparklines.meter(50),
        sparklines.day_bars("Up", [Day(START.date(), 9)]), sparklines.sparkline("Time", [(3, True), (None, False)]),
    )  # fmt: skip
    for picture in pictures:
        for element in parsed(picture).iter():
            assert not {"style", "fill", "stroke", "onclick"} & set(element.keys())


def test_a_name_from_outside_stays_text() -> None:
    chart = charts.line_chart("a", "<b>&%s", [Line("x", minutes(1, 2))], start=START, end=END, over="1 h")
    assert "<b>" not in chart.svg
    assert "<b>" not in sparklines.sparkline("<b>", [(1, True)])


def test_a_day_of_readings_stays_small() -> None:
    wild = [float(7 * place % 100) for place in range(240)]
    assert len(drawn(Line("CPU", minutes(*wild, apart=6))).svg) < 5_500


def test_a_counter_becomes_a_rate_and_a_restart_of_it_says_nothing() -> None:
    points = [(START + timedelta(seconds=10 * at), value) for at, value in enumerate((0.0, 100.0, 300.0, 5.0, 15.0))]
    assert [value for _, value in charts.per_second(points)] == [10.0, 20.0, 1.0]


@pytest.mark.parametrize(
    ("highest", "top"), [(0, 1), (0.3, 0.4), (1, 1), (3, 4), (5, 5), (7, 10), (130, 200), (999_999, 1_000_000)]
)
def test_scales_end_at_round_numbers(highest: float, top: float) -> None:
    assert charts.round_top(highest) == pytest.approx(top)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (formatting.percent(0.04), "0 %"), (formatting.percent(3.14), "3.1 %"), (formatting.percent(12.3), "12 %"),
        (formatting.percent(99.954), "99.95 %"), (formatting.percent(99.9999), "99.99 %"),
        (formatting.percent(100), "100 %"),
        (formatting.rate(0), "0 B/s"), (formatting.rate(1_234), "1.2 kB/s"), (formatting.rate(45_600_000), "46 MB/s"),
        (formatting.size(999_700), "1.0 MB"), (formatting.milliseconds(85.4), "85 ms"),
        (formatting.milliseconds(0.45), "0.5 ms"), (formatting.milliseconds(1_400), "1.4 s"),
    ],
)  # fmt: skip
def test_numbers_are_worded_plainly(said: str, words: str) -> None:
    assert said == words


def test_a_spark_line_marks_failed_checks() -> None:
    picture = sparklines.sparkline("Response time", [(20, True), (30, True), (None, False), (25, True)])
    assert "Response time: between 20 ms and 30 ms; 1 of 4 checks failed" in picture
    assert picture.count('class="trouble"') == 1
    assert "not checked yet" in sparklines.sparkline("Response time", [])


def test_bars_by_day_tell_days_apart_by_more_than_colour() -> None:
    days = [Day(date(2026, 11, day), up) for day, up in ((20, None), (21, 100.0), (22, 99.5), (23, 40.0))]
    picture = sparklines.day_bars("Uptime over 30 days", days)
    said = parsed(picture).get("aria-label")
    assert said == "Uptime over 30 days: no failures on 1 of 3 days; 22 Nov 99.5 %; 23 Nov 40 %"
    assert [each.get("class") for each in parsed(picture)] == ["none", "up", "some", "down"]
    assert "Fri 20 Nov: not checked" in picture


def test_a_meter_is_in_alarm_from_its_limit_on() -> None:
    bars = [re.findall(r'rect class="(\w+)" width="\d+"', sparklines.meter(share, 90)) for share in (50, 85, 90)]
    assert [each[-1] for each in bars] == ["fine", "warn", "bad"]
