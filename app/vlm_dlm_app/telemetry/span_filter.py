"""What of a span may leave the server: nothing that a client wrote but the ids that its
`traceparent` gives, so that its spans and these are one trace. Imports OpenTelemetry's SDK, so
only `tracing.py` imports this, where traces are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, Status

# By old and new conventions, which an operator chooses between by a variable of the SDK.
ALLOWED = frozenset(
    {
        *("http.method", "http.request.method"),
        *("http.route",),  # the template
        *("http.status_code", "http.response.status_code"),
    }
)
OWN = ("gen_ai.", "vlm_dlm.")  # `tracing.py` sets them


class SpanFilter(SpanExporter):
    """Hands on to `exporter` what is allowed of each span: no other attribute, no event (an
    exception may quote a value) and no `tracestate`, which the caller wrote."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([_allowed(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _allowed(span: ReadableSpan) -> ReadableSpan:
    attributes = span.attributes or {}
    return ReadableSpan(
        span.name,
        context=_without_state(span.context),
        parent=_without_state(span.parent),
        resource=span.resource,
        attributes={
            name: value
            for name, value in attributes.items()
            if name in ALLOWED or name.startswith(OWN)
        },
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _without_state(context: SpanContext | None) -> SpanContext | None:
    if context is None:
        return None
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)
