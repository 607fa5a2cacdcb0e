"""The command line: `python -m bench [PART …]`."""

from __future__ import annotations

import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec
import psutil

from bench.figures import Figure, encoded, markdown, print_table
from bench.parts import (
    agents,
    checks,
    dead,
    decisions,
    dependencies,
    flat,
    heartbeats,
    latency,
    loss,
    pages,
    ready,
    sources,
    throughput,
)
from bench.workshop import FULL, QUICK, Workshop

RESULTS = Path(__file__).with_name("results.json")

PARTS: dict[str, Callable[[Workshop], Iterator[Figure]]] = {
    "ready": ready.measure,
    "latency": latency.measure,
    "single": throughput.measure_single,
    "batch": throughput.measure_batch,
    "loss": loss.measure,
    "dead": dead.measure,
    "checks": checks.measure,
    "agents": agents.measure,
    "heartbeats": heartbeats.measure,
    "decisions": decisions.measure,
    "dependencies": dependencies.measure,
    "sources": sources.measure,
    "flat": flat.measure,
    "pages": pages.measure,
}


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--quick", is_flag=True, help="Small sizes: whether it works, not how fast it is.")
@click.option("--strict", is_flag=True, help="Exit 1 where a goal was missed or a part failed.")
@click.option("--destinations", default=10, show_default=True, help="How many webhooks the incidents go to.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the last results as a table for the README.")
def main(parts: tuple[str, ...], quick: bool, strict: bool, destinations: int, as_markdown: bool) -> None:
    """Measure Tocsin beside Alertmanager and blackbox_exporter on this machine, over loopback only."""
    if as_markdown:
        print(_last())
        return
    # Ended from outside, it still takes with it what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    workshop = Workshop(QUICK if quick else FULL, destinations)
    measured: dict[str, list[Figure]] = {}
    failed: dict[str, str] = {}
    try:
        for part in parts or PARTS:
            print(f"{part}: {sys.modules[PARTS[part].__module__].__doc__}", flush=True)
            try:
                measured[part] = list(PARTS[part](workshop))
            except Exception as error:
                failed[part] = f"{type(error).__name__}: {error}"
                print(f"  failed: {failed[part]}", flush=True)
    finally:
        workshop.close()
    print_table(measured)
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(_record(measured, failed, quick))))
    print(f"written to {RESULTS.parent.name}/{RESULTS.name}")
    missed = [figure.name for figures in measured.values() for figure in figures if figure.met is False]
    if missed:
        print("goals missed: " + "; ".join(missed))
    if strict and (missed or failed):
        sys.exit(1)


def _record(measured: dict[str, list[Figure]], failed: dict[str, str], quick: bool) -> dict[str, object]:
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "sizes": "quick" if quick else "full",
        "machine": {
            "system": platform.platform(),
            "cores": psutil.cpu_count(),
            "memory": psutil.virtual_memory().total,
            "python": platform.python_version(),
        },
        "parts": {part: [encoded(figure) for figure in figures] for part, figures in measured.items()},
        "failed": failed,
        "markdown": markdown(measured),
    }


def _last() -> str:
    if not RESULTS.exists():
        raise click.ClickException("there are no results yet; run `make bench` first")
    last = msgspec.json.decode(RESULTS.read_bytes())
    machine = last["machine"]
    return f"{last['markdown']}\n\n{machine['cores']} cores, Python {machine['python']}, {last['at'][:10]}."


if __name__ == "__main__":
    main()
