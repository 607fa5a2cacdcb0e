"""The library of OpenTelemetry, which only a process that takes traces loads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from datetime import datetime

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import Attributes

from tocsin import __version__
from tocsin.domain.traces import Position, nanoseconds

log = structlog.get_logger(__name__)

LAST = 2.0
"""Seconds at the end of a process in which spans are still sent."""
LONGEST = 256
"""Characters of an attribute."""
KINDS = {
    "internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT, "consumer": SpanKind.CONSUMER,
}  # fmt: skip
PATH = "/v1/traces"


class Tracer:
    """Makes spans, and has them sent to `endpoint`. What the standard's variables set beside it is kept to: headers,
    the sampler, the size of the queue (2,048 spans), the service's name.
    """

    def __init__(self, endpoint: str, service: str) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)  # it says the same thing for every batch
        ours = Resource({"service.name": service, "service.version": __version__})
        resource = Resource.create(dict(ours.merge(OTELResourceDetector().detect()).attributes))
        self._ids = _Ids()
        self._exporter = _Exporter(OTLPSpanExporter(endpoint=endpoint.rstrip("/") + PATH))
        self._provider = TracerProvider(
            resource=resource, shutdown_on_exit=False, id_generator=self._ids,
            span_limits=SpanLimits(max_attribute_length=LONGEST),
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("tocsin", __version__)

    def begin(
        self, name: str, kind: str, attributes: Attributes, parent: Position | None, *,
        own: Position | None = None, at: datetime | None = None,
    ) -> Span:  # fmt: skip
        """A span below `parent`, or of a trace of its own."""
        self._ids.next = own
        try:
            return self._tracer.start_span(
                name, context=_below(parent), kind=KINDS[kind], attributes=attributes,
                start_time=None if at is None else nanoseconds(at),
            )  # fmt: skip
        finally:
            self._ids.next = None

    def position(self, span: Span) -> Position:
        known = span.get_span_context()
        return Position(known.trace_id, known.span_id, known.trace_flags.sampled)

    def root(self, trace_id: int, span_id: int) -> Position:
        taken = self._provider.sampler.should_sample(None, trace_id, "delivery", SpanKind.CONSUMER)
        return Position(trace_id, span_id, taken.decision is Decision.RECORD_AND_SAMPLE)

    def failed(self, span: Span, kind: str) -> None:
        """Without a description: what an error says may quote anything."""
        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR))

    def stop(self) -> None:
        """Send what is left, for a moment: a receiver that is away holds nobody up."""
        ending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(LAST)
        if ending.is_alive():
            self._exporter.shutdown()


def _below(parent: Position | None) -> Context:
    if parent is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
    known = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(known), Context())


class _Ids(RandomIdGenerator):
    """Numbers of spans: random, or those of the position that the next one is to have."""

    next: Position | None = None

    def generate_span_id(self) -> int:
        return super().generate_span_id() if self.next is None else self.next.span_id

    def generate_trace_id(self) -> int:
        return super().generate_trace_id() if self.next is None else self.next.trace_id


class _Exporter(SpanExporter):
    """Sends, and says once when it cannot and once when it can again."""

    def __init__(self, to: OTLPSpanExporter) -> None:
        self._to = to
        self._well = True
        self._ended = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._to.export(spans)
        well = result is SpanExportResult.SUCCESS
        if well is not self._well and not self._ended:
            self._well = well
            if well:
                log.info("Traces are sent again")
            else:
                log.warning("Traces cannot be sent to OTEL_EXPORTER_OTLP_ENDPOINT; they are lost until they can")
        return result

    def shutdown(self) -> None:
        if not self._ended:
            self._ended = True
            self._to.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True
