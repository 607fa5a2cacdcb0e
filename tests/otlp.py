"""A receiver of traces: OTLP over HTTP as it is specified, on a real socket, its protobuf decoded by the standard's own
messages (https://opentelemetry.io/docs/specs/otlp/#otlphttp).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.receivers import Receiver
from tests.waiting import until

PATH = "/v1/traces"


@dataclass(frozen=True)
class Span:
    """One span as it arrived; `service` is the process that made it, and numbers are in hexadecimal."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    failed: bool
    began: int
    ended: int
    attributes: dict[str, Any]


class Traces:
    """What has arrived at a receiver."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    @property
    def bodies(self) -> list[bytes]:
        found = self.receiver.to(PATH)
        assert {each.headers["content-type"] for each in found} <= {"application/x-protobuf"}
        return [each.body for each in found]

    @property
    def spans(self) -> list[Span]:
        return [span for body in self.bodies for span in _spans(ExportTraceServiceRequest.FromString(body))]

    async def have(self, count: int, name: str) -> list[Span]:
        """At least so many of that name."""

        async def look() -> list[Span] | None:
            found = [each for each in self.spans if each.name == name]
            return found if len(found) >= count else None

        return await until(look, what=lambda: f"{count} × {name} among {[each.name for each in self.spans]}")


def _spans(request: Any) -> list[Span]:
    found = []
    for resource in request.resource_spans:
        service = _values(resource.resource.attributes)["service.name"]
        found += [
            Span(
                service, each.name, each.trace_id.hex(), each.span_id.hex(), each.parent_span_id.hex(), each.kind,
                each.status.code == each.status.STATUS_CODE_ERROR, each.start_time_unix_nano, each.end_time_unix_nano,
                _values(each.attributes),
            )
            for scope in resource.scope_spans for each in scope.spans
        ]  # fmt: skip
    return found


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
