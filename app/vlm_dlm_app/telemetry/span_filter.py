"""What of a request may come into a span and stay there: nothing that a client wrote but the ids
that its `traceparent` gives, so that its spans and these are one trace. Imports OpenTelemetry's
SDK, so only `tracing.py` imports this, where traces are asked for."""

from __future__ import annotations

import re

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor
from opentelemetry.trace import SpanContext, Status
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

# By old and new conventions, which an operator chooses between by a variable of the SDK.
ALLOWED = frozenset(
    {
        *("http.method", "http.request.method"),
        *("http.route",),  # the template
        *("http.status_code", "http.response.status_code"),
    }
)
OWN = ("gen_ai.", "vlm_dlm.")  # `tracing.py` sets them


# What a client wrote stands in a span for as long as its request.
LIMITS = SpanLimits(max_span_attribute_length=256)
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_PARENT = "traceparent"


class SpanFilter(SpanProcessor):
    """Hands on to `processor` what is allowed of each span that has ended: no other attribute, no
    event (an exception may quote a value) and no `tracestate`, which the caller wrote."""

    def __init__(self, processor: SpanProcessor) -> None:
        self._processor = processor

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        pass

    def on_end(self, span: ReadableSpan) -> None:
        self._processor.on_end(_allowed(span))

    def shutdown(self) -> None:
        self._processor.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._processor.force_flush(timeout_millis)


class ParentOnly(TextMapPropagator):
    """A caller's `traceparent`. Of `tracestate` and `baggage`, of any length, nothing is used; the
    SDK would read them before anything else looks at the request, and log what is wrong."""

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        given = getter.get(carrier, _PARENT) or []
        if len(given) != 1 or not _TRACEPARENT.fullmatch(given[0]):
            return context or Context()
        return TraceContextTextMapPropagator().extract({_PARENT: given[0]}, context)

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        TraceContextTextMapPropagator().inject(carrier, context, setter)

    @property
    def fields(self) -> set[str]:
        return {_PARENT}


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
