"""Traces, as a collector gets them; and nothing of it where nobody asks."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from time import process_time
from typing import Any

import pytest

from tests.api.serving import PATIENCE_S, data_uri, live_server, png
from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm.errors import BadInputError
from vlm_dlm.preflight import Checkpoint
from vlm_dlm_app.settings.model import Settings
from vlm_dlm_app.telemetry import tracing

SECRET = "a-word-that-nobody-may-read"
# By the old and the new conventions.
REQUEST_NAMES = {
    *("http.method", "http.request.method", "http.route"),
    *("http.status_code", "http.response.status_code"),
}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
needs_otel = pytest.mark.skipif(
    find_spec("opentelemetry.proto") is None or not all(map(tracing._is_there, tracing.PACKAGES)),  # pyright: ignore[reportPrivateUsage]
    reason="OpenTelemetry is not installed: pip install 'vlm-dlm[otel]'",
)


class Collector(ThreadingHTTPServer):
    """Keeps what is sent. bodies: by POST, undecoded."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.paths: set[str] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self) -> list[Any]:
        import gzip

        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        found: list[Any] = []
        for body in self.bodies:
            plain = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
            assert SECRET.encode() not in plain
            for resource in ExportTraceServiceRequest.FromString(plain).resource_spans:
                names = {a.key: a.value.string_value for a in resource.resource.attributes}
                assert names["service.name"] == "vlm-dlm"
                found += [span for scope in resource.scope_spans for span in scope.spans]
        return found


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def do_POST(self) -> None:
        self.server.paths.add(self.path)
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join(PATIENCE_S)


def values(span: Any) -> dict[str, Any]:
    kinds = {a.key: a.value.WhichOneof("value") for a in span.attributes}
    return {a.key: getattr(a.value, kinds[a.key]) for a in span.attributes}


@needs_otel
def test_a_request_and_where_its_time_went(checkpoint: Checkpoint, collector: Collector) -> None:
    settings = Settings(otel_endpoint=collector.url)
    script = Script(("one ", "two ", "three."))
    body = {"prompt": SECRET, "images": [data_uri(png())], "mode": "ar"}
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "User-Agent": SECRET}
    with live_server(checkpoint, settings, script) as running:
        address = f"{running.url}/v1/generate?prompt={SECRET}"
        reply = running.http.post(address, json=body, headers=headers)
        assert reply.status_code == 200
        running.http.get(f"{running.url}/health")
    spans = collector.spans()  # all of them: the end of the server sends what is left
    assert collector.paths == {"/v1/traces"}
    by_name = {span.name: span for span in spans}
    request = by_name["POST /v1/generate"]
    assert len(spans) == len(by_name)
    assert set(by_name) == {"POST /v1/generate", "prepare", "queue", "picture", "prompt", "decode"}
    assert request.trace_id.hex() == TRACE
    assert request.parent_span_id.hex() == PARENT
    for name in ("prepare", "queue", "picture", "prompt", "decode"):
        span = by_name[name]
        assert span.trace_id.hex() == TRACE
        assert span.parent_span_id == request.span_id, name
        assert request.start_time_unix_nano <= span.start_time_unix_nano
        assert span.start_time_unix_nano <= span.end_time_unix_nano
    usage = reply.json()["usage"]
    decode = values(by_name["decode"])
    assert decode["gen_ai.request.model"] == "vlm-dlm:ar"
    assert decode["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert decode["gen_ai.usage.output_tokens"] == usage["completion_tokens"] == 3
    assert decode["vlm_dlm.mode"] == "ar"
    assert decode["vlm_dlm.forwards"] == reply.json()["metrics"]["num_forwards"]
    assert values(by_name["queue"])["vlm_dlm.mode"] == "ar"
    asked = values(request)
    assert asked == {"http.method": "POST", "http.route": "/v1/generate", "http.status_code": 200}


@needs_otel
@pytest.mark.parametrize("convention", ["", "http", "http/dup"])
def test_nothing_that_a_client_wrote_leaves_the_server(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, convention: str
) -> None:
    from opentelemetry.exporter.otlp.proto.http import trace_exporter
    from opentelemetry.instrumentation import _semconv
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept = InMemorySpanExporter()
    monkeypatch.setattr(trace_exporter, "OTLPSpanExporter", lambda **_: kept)
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", convention)
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", ".*")
    stability = _semconv._OpenTelemetrySemanticConventionStability  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(stability, "_initialized", False)  # so that it reads the variable
    monkeypatch.setattr(stability, "_OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING", {})
    headers = {
        "traceparent": f"00-{TRACE}-{PARENT}-01",
        **dict.fromkeys(("User-Agent", "Referer", "X-Forwarded-For", "X-Real-IP"), SECRET),
        **{"Host": SECRET, "tracestate": f"a={SECRET}", "baggage": f"a={SECRET}"},
    }
    settings = Settings(otel_endpoint="http://127.0.0.1:1", allowed_hosts=(SECRET,))
    with live_server(checkpoint, settings) as running:
        for method, path in (("POST", "v1/generate"), ("GET", SECRET), (SECRET, "v1/models")):
            url, body = f"{running.url}/{path}?{SECRET}={SECRET}", {"prompt": SECRET}
            running.http.request(method, url, json=body, headers=headers)
        reply = running.http.post(f"{running.url}/v1/generate", json={"prompt": "Hello"})
        assert reply.status_code == 200
    spans = kept.get_finished_spans()
    assert {"POST /v1/generate", "decode"} <= {span.name for span in spans}
    for span in spans:
        assert SECRET not in span.to_json()
        assert span.context is not None
        assert not span.context.trace_state
        names = {name for name in span.attributes or {} if not name.startswith(("gen_", "vlm_"))}
        assert names <= REQUEST_NAMES, span.name


@needs_otel
def test_what_is_not_read_of_a_head_costs_and_logs_nothing(
    checkpoint: Checkpoint, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    odd = [
        {"baggage": ",".join(["b b"] * 180)},
        {"baggage": f"k={SECRET}{'x' * 8000}"},
        {"tracestate": ",".join(["="] * 300), "traceparent": f"00-{TRACE}-{PARENT}-01"},
        {"tracestate": "x" * 8000, "traceparent": f"00-{TRACE}-{PARENT}-01"},
        {"traceparent": "x" * 8000},
        {"traceparent": f"00-{TRACE}-{PARENT}-01-{SECRET}"},
    ]
    with live_server(checkpoint, Settings(otel_endpoint=collector.url)) as running:
        for headers in odd:
            caplog.clear()
            assert running.http.get(f"{running.url}/v1/models", headers=headers).status_code == 200
            assert not [each for each in caplog.records if each.name.startswith("opentelemetry")]
    assert [span.trace_id.hex() == TRACE for span in collector.spans()] == [
        *(False, False, True, True, False, False)
    ]


@needs_otel
def test_long_heads_cost_no_more_than_without_traces(
    checkpoint: Checkpoint, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """The instrumentation reads the whole head, before the queue of all requests."""
    taken: dict[bool, float] = {}
    for has_traces in (False, True):
        settings = Settings(otel_endpoint=collector.url if has_traces else None)
        with live_server(checkpoint, settings) as running:
            query = "a=b&" * 15_000
            running.http.get(f"{running.url}/x?{query}")
            began_s = process_time()
            for _ in range(40):
                running.http.get(f"{running.url}/x?{query}", headers={"User-Agent": "x" * 3000})
            taken[has_traces] = process_time() - began_s
    assert taken[True] < taken[False] + 0.4  # 1.5 with what it reads by itself
    assert not [each for each in caplog.records if each.name.startswith("opentelemetry")]
    assert all(SECRET not in str(span) for span in collector.spans())


@needs_otel
def test_spans_that_wait_hold_nothing_that_a_client_wrote() -> None:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    from vlm_dlm_app.telemetry.span_filter import LIMITS, SpanFilter

    waiting: list[Any] = []

    class Waiting(SpanProcessor):
        def on_end(self, span: Any) -> None:
            waiting.append(span)

    provider = TracerProvider(span_limits=LIMITS)
    provider.add_span_processor(SpanFilter(Waiting()))
    attributes = {"http.url": SECRET * 1000, "http.route": "/v1/x"}
    with provider.get_tracer("x").start_as_current_span("GET", attributes=attributes) as span:
        kept: Any = span
        assert len(kept.attributes["http.url"]) <= 256
    assert [dict(each.attributes) for each in waiting] == [{"http.route": "/v1/x"}]


@needs_otel
def test_every_answer_of_a_comparison_has_its_spans(
    checkpoint: Checkpoint, collector: Collector
) -> None:
    with live_server(checkpoint, Settings(otel_endpoint=collector.url)) as running:
        body = {"prompt": SECRET, "modes": ["ar", "diffusion"]}
        assert running.http.post(f"{running.url}/v1/compare", json=body).status_code == 200
    decodes = [span for span in collector.spans() if span.name == "decode"]
    assert {values(span)["vlm_dlm.mode"] for span in decodes} == {"ar", "diffusion"}
    (request,) = [span for span in collector.spans() if span.name == "POST /v1/compare"]
    assert {span.parent_span_id for span in decodes} == {request.span_id}


@needs_otel
def test_without_a_collector_answers_come_as_ever(checkpoint: Checkpoint) -> None:
    with live_server(checkpoint, Settings(otel_endpoint="http://127.0.0.1:1")) as running:
        reply = running.http.post(f"{running.url}/v1/generate", json={"prompt": "Hello"})
        assert reply.status_code == 200


def test_by_default_nothing_is_imported() -> None:
    code = (
        "import sys; from vlm_dlm.preflight import open_checkpoint; "
        "from vlm_dlm_app.settings.sources import load_settings; "
        "from vlm_dlm_app.main import create_app; "
        "from vlm_dlm_app.settings.launching import build_engine; "
        "s = load_settings({'engine': 'scripted'}); "
        "c = open_checkpoint(); create_app(s, build_engine(s, c), c); "
        "parts = ('sdk', 'exporter', 'instrumentation', 'proto'); "
        "parts = tuple(f'opentelemetry.{part}' for part in parts); "
        "bad = [m for m in sys.modules if m.startswith(parts)]; "
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": "app", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
    )
    assert done.returncode == 0, done.stderr


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_is_there", lambda name: False)
    assert tracing.build_tracing(None, "x") is None
    with pytest.raises(BadInputError, match=r"pip install 'vlm-dlm\[otel\]'"):
        tracing.build_tracing("http://127.0.0.1:1", "x")
