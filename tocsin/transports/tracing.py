"""Traces, by OpenTelemetry over OTLP/HTTP, to the receiver that the operator has named: it is not guarded.

Nothing of it is loaded before `start` (`transports.otlp` is what loads it). Spans wait in this process, a few thousand
at most, and are sent by a thread: if the receiver is away or slow, the oldest are lost, nothing waits for it, and one
line of the log says so.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from tocsin.domain import requests, traces
from tocsin.domain.settings import Unusable
from tocsin.domain.traces import Position

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from tocsin.transports.otlp import Tracer

Attributes = Mapping[str, str | int | float | bool]
Kind = Literal["internal", "server", "client", "consumer"]

NONE: AbstractContextManager[None] = nullcontext()

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class _Process:
    """What traces are taken by in this process, if any are."""

    tracer: Tracer | None = None


def require(endpoint: str | None) -> None:
    """Raises `Unusable` if there is an endpoint, and nothing installed that could send there."""
    if endpoint is None:
        return
    try:
        parts = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
        installed = all(importlib.util.find_spec(part) for part in parts)
    except ModuleNotFoundError:
        installed = False
    if not installed:
        raise Unusable(ENDPOINT, "is set, but OpenTelemetry is not installed; install it: pip install 'tocsin[otel]'")


def start(endpoint: str | None, process: str) -> None:
    """Take traces in this process from now on, if there is an endpoint. Raises `Unusable`."""
    require(endpoint)
    if endpoint is not None:
        from tocsin.transports import otlp

        _Process.tracer = otlp.Tracer(endpoint, f"tocsin-{process}")


def stop() -> None:
    """Send what is left, for a moment."""
    tracer, _Process.tracer = _Process.tracer, None
    if tracer is not None:
        tracer.stop()


def on() -> bool:
    """Whether traces are taken."""
    return _Process.tracer is not None


def span(name: str, kind: Kind = "internal", *, parent: Position | None = None) -> AbstractContextManager[Span | None]:
    """A span of what is done in here; None if no traces are taken. What is done in here has it in its origin.

    Unless a `parent` is given, it is below the span of the present origin, or begins a trace.
    """
    return NONE if _Process.tracer is None else _span(_Process.tracer, name, kind, parent)


@contextmanager
def _span(tracer: Tracer, name: str, kind: Kind, parent: Position | None) -> Iterator[Span]:
    origin = requests.current()
    begun = tracer.begin(name, kind, None, parent or traces.read(requests.trace_of(origin)))
    before = requests.ORIGIN.set(f"{requests.id_of(origin) or ''} {tracer.position(begun)}")
    try:
        yield begun
    except Exception as error:
        tracer.failed(begun, type(error).__name__)
        raise
    finally:
        requests.ORIGIN.reset(before)
        begun.end()


def failed(span: Span, kind: str) -> None:
    """Say that it failed, by which kind of error."""
    if _Process.tracer is not None:
        _Process.tracer.failed(span, kind)


def root(trace_id: int, span_id: int) -> Position:
    """The beginning of a trace of this number, which is taken or not as the sampler says. Only if `on`."""
    assert _Process.tracer is not None
    return _Process.tracer.root(trace_id, span_id)


def note(
    name: str, kind: Kind, attributes: Attributes, *, began: datetime, ended: datetime, parent: Position | None,
    own: Position | None = None, failed: str | None = None,
) -> None:  # fmt: skip
    """A span of what is over, at its `own` position if that is known to others already. `failed` is the kind of error.
    Only if `on`.
    """
    tracer = _Process.tracer
    assert tracer is not None
    noted = tracer.begin(name, kind, attributes, parent, own=own, at=began)
    if failed is not None:
        tracer.failed(noted, failed)
    noted.end(traces.nanoseconds(ended))
