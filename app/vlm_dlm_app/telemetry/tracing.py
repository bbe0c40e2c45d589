"""Traces by OpenTelemetry, where an operator asks for them: a span per request, and below it where
the time of each answer went. Nothing that a client wrote is in them: see `span_filter.py`."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any

from vlm_dlm.errors import BadInputError
from vlm_dlm_app.telemetry.bare_head import Bare, Whole

if TYPE_CHECKING:
    from fastapi import FastAPI
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

    from vlm_dlm.events import Stats

PACKAGES = (
    "opentelemetry.instrumentation.fastapi",
    "opentelemetry.sdk",
    "opentelemetry.exporter.otlp.proto.http",
)
# Asked for all the time by machines and by the page.
QUIET = "/health,/metrics,/assets/,/static/,/favicon.ico,/theme.css"
EXPORT_S = 3.0  # for one batch; also how long the server's end can be held up


@dataclass(frozen=True, slots=True)
class Answered:
    """How one answer went.

    cause: as in the log.
    began_s: when it lined up, on the monotonic clock.
    queue_s: None if its turn never came.
    stats: None if it was not finished.
    """

    model: str
    mode: str
    cause: str
    began_s: float
    queue_s: float | None
    num_prompt_tokens: int
    num_tokens: int
    stats: Stats | None


class Tracing:
    """Sends spans to a collector, in a thread of its own."""

    def __init__(self, provider: TracerProvider, model: str) -> None:
        self._provider = provider
        self._tracer: Tracer = provider.get_tracer("vlm_dlm_app")
        self.model = model

    def instrument(self, app: FastAPI) -> None:
        """A span for every request, below the caller's if a traceparent names one."""
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        FastAPIInstrumentor.instrument_app(
            app,
            tracer_provider=self._provider,
            excluded_urls=QUIET,
            exclude_spans=["receive", "send"],
        )
        app.add_middleware(Whole)
        build = app.build_middleware_stack
        app.build_middleware_stack = lambda: Bare(build())

    @contextmanager
    def preparing(self) -> Generator[None]:
        """The span of reading pictures and text, before an answer lines up."""
        with self._tracer.start_as_current_span(
            "prepare", record_exception=False, set_status_on_exception=False
        ):
            yield

    def note(self, answer: Answered) -> None:
        """The spans of an answer that is over. The engine is another process, so they are made from
        what it measured."""
        common = {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.provider.name": "vlm-dlm",
            "gen_ai.request.model": answer.model,
            "vlm_dlm.mode": answer.mode,
        }
        start_ns = time_ns() - round((monotonic() - answer.began_s) * 1e9)
        if answer.queue_s is None:
            self._span("queue", start_ns, time_ns(), {**common, "vlm_dlm.cause": answer.cause})
            return
        start_ns = self._span("queue", start_ns, start_ns + _ns(answer.queue_s), common)
        stats = answer.stats
        if stats is not None:
            for name, seconds in (("picture", stats.vision_s), ("prompt", stats.prefill_s)):
                if seconds is not None and (name == "prompt" or stats.num_image_tokens):
                    start_ns = self._span(name, start_ns, start_ns + _ns(seconds), common)
        end_ns = time_ns() if stats is None else start_ns + _ns(stats.decode_s)
        self._span("decode", start_ns, end_ns, {**common, **_figures(answer)})

    def close(self) -> None:
        """Send what is left. Blocking."""
        self._provider.shutdown()

    def _span(self, name: str, start_ns: int, end_ns: int, attributes: Mapping[str, Any]) -> int:
        """Its end."""
        span = self._tracer.start_span(name, start_time=start_ns, attributes=dict(attributes))
        span.end(max(start_ns, end_ns))
        return end_ns


def build_tracing(endpoint: str | None, model: str) -> Tracing | None:
    """None, and nothing imported, without an endpoint. The SDK's own variables (OTEL_SERVICE_NAME,
    OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER and so on) count with one.

    Raises BadInputError where a package is missing.
    """
    if endpoint is None:
        return None
    if not all(map(_is_there, PACKAGES)):
        raise BadInputError(
            "setting otel_endpoint needs packages that are not installed: "
            "pip install 'vlm-dlm[otel]'"
        )
    from opentelemetry import propagate
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from vlm_dlm import __version__
    from vlm_dlm_app.telemetry.span_filter import LIMITS, ParentOnly, SpanFilter

    own = Resource({"service.name": "vlm-dlm", "service.version": __version__})
    propagate.set_global_textmap(ParentOnly())
    provider = TracerProvider(
        resource=own.merge(OTELResourceDetector().detect()), span_limits=LIMITS
    )
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_S)
    provider.add_span_processor(
        SpanFilter(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    )
    return Tracing(provider, model)


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _figures(answer: Answered) -> dict[str, Any]:
    stats = answer.stats
    figures: dict[str, Any] = {
        "gen_ai.response.finish_reasons": [answer.cause],
        "gen_ai.usage.input_tokens": answer.num_prompt_tokens,
        "gen_ai.usage.output_tokens": answer.num_tokens if stats is None else stats.num_tokens,
    }
    if stats is not None:
        figures["vlm_dlm.forwards"] = stats.num_forwards
        figures["vlm_dlm.tokens_per_forward"] = stats.tokens_per_forward
        figures["vlm_dlm.image_tokens"] = stats.num_image_tokens
    return figures


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
