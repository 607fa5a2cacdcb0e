"""How soon a page of the console is on the screen, in a real browser, on a full database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright

from bench import peers, seed
from bench.figures import Figure, at_most, median
from bench.workshop import Workshop

CHROMIUM = "chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
IDENTIFIER = re.compile(r"\b[A-Z]{2,3}[0-9A-Z]{26}|(?<==)\d+\b")
"""What tells pages of one kind apart: public identifiers, and numbers of pages."""
TROUBLED = 500
"""Servers with an incident that lasts and a delivery that was given up; and silences: for the overview."""
NO_PAGES = ("/agent", "/metrics", "/openapi", "/static", "/health")

# Paint Timing, https://www.w3.org/TR/paint-timing/: milliseconds from the wish to see the page to its first contents.
PAINTED = """() => new Promise(told => {
    const [painted] = performance.getEntriesByName('first-contentful-paint')
    if (painted) return told(painted.startTime)
    new PerformanceObserver(list => {
        const [painted] = list.getEntriesByName('first-contentful-paint')
        if (painted) told(painted.startTime)
    }).observe({type: 'paint', buffered: true})
})"""
# Resource Timing, https://www.w3.org/TR/resource-timing/: bytes of the page and of all that it loaded, unpacked.
WEIGHT = """() => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
    .reduce((sum, each) => sum + each.decodedBodySize, 0)"""
LINKS = "() => [...document.querySelectorAll('a[href]')].map(each => each.href)"


def measure(workshop: Workshop) -> Iterator[Figure]:
    sizes = workshop.sizes
    program = peers.install(CHROMIUM)
    if program is None:
        return
    with workshop.tocsin(servers=1) as tocsin:
        workshop.say(f"seeding {sizes.old_deliveries:,} old deliveries, {sizes.console:,} servers and as many monitors")
        seed.history(tocsin.folder, tocsin.project, sizes.old_deliveries, sizes.console, own_share=1)
        seed.readings(tocsin.folder, tocsin.project, sizes.console)
        seed.trouble(tocsin.folder, tocsin.project, TROUBLED)
        url = f"http://127.0.0.1:{tocsin.port}"
        cookie = seed.signed_in(tocsin.folder, tocsin.project)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
            context = browser.new_context()
            context.add_cookies([{"name": "tocsin", "value": cookie, "url": url}])
            page = context.new_page()
            found = _pages(page, url)
            weights = {path: _weight(page, url + path) for path in found}
            paints = {path: [_paint(page, url + path) for _ in range(sizes.looks)] for path in found}
            browser.close()
    medians = {path: median(each) for path, each in paints.items()}
    for path, each in sorted(medians.items(), key=lambda item: -item[1]):
        workshop.say(f"{each:6.0f} ms {weights[path] / 1_000:5.0f} kB  {IDENTIFIER.sub('…', path)}")
    slowest = max(medians, key=lambda path: medians[path])
    heaviest = max(weights, key=lambda path: weights[path])
    yield Figure(
        f"first paint of the slowest of {len(found)} pages, full database", medians[slowest], "ms", goal=at_most(100),
        note=f"{IDENTIFIER.sub('…', slowest)}; their median {median([*medians.values()]):.0f}",
        rounds=tuple(paints[slowest]),
    )  # fmt: skip
    yield Figure(
        "weight of the heaviest page, unpacked, with script and style sheet", weights[heaviest] / 1_000, "kB",
        goal=at_most(100), note=IDENTIFIER.sub("…", heaviest),
    )  # fmt: skip


def _pages(page: Page, url: str) -> list[str]:
    """One address of every kind of page that can be reached by following links from the first one."""
    waiting, found = ["/"], dict[str, str]()
    while waiting:
        path = waiting.pop(0)
        answer = page.goto(url + path)
        if answer is None or not answer.ok:
            raise RuntimeError(f"{path}: {answer and answer.status}")
        for link in page.evaluate(LINKS):
            at = urlsplit(link)
            wish = at.path + (f"?{at.query}" if at.query else "")
            kind = IDENTIFIER.sub("…", wish)
            if link.startswith(url) and not wish.startswith(NO_PAGES) and kind not in found:
                found[kind] = wish
                waiting.append(wish)
    return list(found.values())


def _paint(page: Page, url: str) -> float:
    page.goto("about:blank")
    page.goto(url)
    return float(page.evaluate(PAINTED))


def _weight(page: Page, url: str) -> int:
    page.goto(url, wait_until="load")
    return int(page.evaluate(WEIGHT))
