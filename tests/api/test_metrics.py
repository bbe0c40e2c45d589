"""Metrics and the log: every answer is counted once and leaves one line, however it ends."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import Any

import httpx
import openai
import pytest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from tests.api.modes import ScriptedModes, running
from tests.api.serving import LiveServer, until
from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm.events import Stats
from vlm_dlm.request import GenerationRequest
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm_app.answering.live_metrics import LiveMetrics
from vlm_dlm_app.telemetry.metrics import PREFIX, Metrics

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
MESSAGES: Any = [{"role": "user", "content": "What is in the picture?\r\nINFO forged"}]
SPEC = Stats(
    num_prompt_tokens=20,
    num_image_tokens=12,
    num_tokens=9,
    num_forwards=6,
    num_rows=40,
    queue_s=0.1,
    vision_s=0.2,
    prefill_s=0.3,
    decode_s=0.4,
    ttft_s=0.5,
    acceptance_lengths=(4, 1, 4),
    is_prompt_reused=False,
    forwards_by_kind={"draft": 3, "verify": 3},
    rows_by_kind={"draft": 12, "verify": 12},
    num_prefill_forwards=2,
    num_draft_tokens=9,
)
DENOISED = Stats(
    num_prompt_tokens=20,
    num_image_tokens=0,
    num_tokens=8,
    num_forwards=4,
    num_rows=32,
    queue_s=0,
    vision_s=0,
    prefill_s=0.3,
    decode_s=0.4,
    ttft_s=0.5,
    acceptance_lengths=None,
    is_prompt_reused=True,
    forwards_by_kind={"denoise": 3, "commit": 1},
    rows_by_kind={"denoise": 24, "commit": 8},
    num_prefill_forwards=0,
)


def parse(text: str) -> Samples:
    return {
        (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """The sum over all series of that name which have these labels."""
    wanted = set(labels.items())
    return sum(number for (own, has), number in samples.items() if own == name and wanted <= has)


def scrape(server: LiveServer) -> Samples:
    reply = httpx.get(f"{server.url}/metrics", timeout=30, trust_env=False)
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    return parse(reply.text)


def test_verified_drafts_are_counted_from_stats_alone() -> None:
    metrics = Metrics("m", ["any"])
    metrics.count_answer("any", "stop", SPEC, 1.0)
    samples = parse(metrics.render().decode())
    assert value(samples, "spec_decode_num_drafts_total", mode="any") == 3
    assert value(samples, "spec_decode_num_draft_tokens_total") == 9
    assert value(samples, "spec_decode_num_accepted_tokens_total") == 6
    assert value(samples, "model_forwards_total", kind="draft") == 3
    assert value(samples, "model_forwards_total", kind="prefill") == 2
    assert value(samples, "diffusion_num_denoising_steps_total") == 0
    assert value(samples, "request_tokens_per_forward_sum") == 1.5
    assert value(samples, "image_encode_time_seconds_sum") == 0.2
    assert value(samples, "request_success_total", finished_reason="stop", model_name="m") == 1
    assert value(samples, "prefix_cache_hits_total") == 0
    assert value(samples, "request_time_per_output_token_seconds_sum") == pytest.approx(0.05)


def test_denoising_is_counted_from_stats_alone() -> None:
    metrics = Metrics("m")
    metrics.count_answer("any", "length", DENOISED, 1.0)
    samples = parse(metrics.render().decode())
    assert value(samples, "diffusion_num_denoising_steps_total", mode="any") == 3
    assert value(samples, "diffusion_num_canvas_positions_total") == 24
    assert value(samples, "diffusion_num_committed_tokens_total") == 8
    assert value(samples, "model_forwards_total", kind="commit") == 1
    assert value(samples, "spec_decode_num_drafts_total") == 0
    assert value(samples, "image_encode_time_seconds_count") == 0
    assert value(samples, "prefix_cache_hits_total") == 20
    assert value(samples, "prefix_cache_queries_total") == 20


def test_an_answer_is_counted_under_its_mode(server: LiveServer, client: openai.OpenAI) -> None:
    before = scrape(server)
    reply = client.chat.completions.create(model="vlm-dlm:diffusion", messages=MESSAGES)
    assert reply.usage is not None
    after = scrape(server)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    labels = {"mode": "diffusion", "model_name": "vlm-dlm"}
    assert grown("prompt_tokens_total", **labels) == reply.usage.prompt_tokens
    assert grown("generation_tokens_total", **labels) == reply.usage.completion_tokens
    assert grown("request_success_total", finished_reason="stop", **labels) == 1
    for name in (
        "time_to_first_token_seconds",
        "e2e_request_latency_seconds",
        "request_queue_time_seconds",
        "request_prefill_time_seconds",
        "request_decode_time_seconds",
    ):
        assert grown(f"{name}_count", **labels) == 1
        assert grown(f"{name}_count", mode="ar") == 0


def test_gauges_follow_a_request_and_fall_back(server: LiveServer, client: openai.OpenAI) -> None:
    server.engine.play(Script(("word ",) * 500, step_s=0.02))
    before = scrape(server)
    stream = client.chat.completions.create(
        model="vlm-dlm:ar", messages=MESSAGES, stream=True, max_tokens=500
    )
    chunks = iter(stream)
    next(chunks)
    next(chunks)
    during = scrape(server)
    assert value(during, "num_requests_running", mode="ar") == 1
    stream.close()
    until(lambda: server.engine.inner.num_running == 0)
    until(lambda: value(scrape(server), "num_requests_running") == 0)
    after = scrape(server)
    assert value(after, "num_requests_waiting") == 0
    aborts = "request_aborts_total"
    assert value(after, aborts, stage="decode") - value(before, aborts, stage="decode") == 1


def test_refusals_are_counted_by_reason(server: LiveServer, client: openai.OpenAI) -> None:
    name, before = "admission_rejections_total", scrape(server)
    server.engine.set_phase(Phase.LOADING)
    try:
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model="vlm-dlm", messages=MESSAGES)
    finally:
        server.engine.set_phase(Phase.READY)
    grown = value(scrape(server), name, reason="unavailable") - value(
        before, name, reason="unavailable"
    )
    assert grown == 1


def test_live_figures_are_there_from_the_start(server: LiveServer) -> None:
    samples = scrape(server)
    names = {name for name, _ in samples}
    assert {
        "engine_restarts_total",
        "image_decode_child_deaths_total",
        "engine_ready",
        "num_requests_running",
        "num_requests_waiting",
        "num_requests_preparing",
    } <= names
    assert value(samples, "engine_ready") == 1
    assert LiveMetrics(server.services).describe() == []


def test_a_server_that_ends_is_not_ready() -> None:
    async def run() -> None:
        async with running(ScriptedModes()) as server:
            assert value(parse((await server.http.get("/metrics")).text), "engine_ready") == 1
            server.app.state.services.lifecycle.close_door()
            assert value(parse((await server.http.get("/metrics")).text), "engine_ready") == 0

    asyncio.run(run())


def test_series_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the library, that is; from then on by a dict."""
    metrics = Metrics("m")
    metrics.count_answer("any", "stop", SPEC, 1.0)

    def labels(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(MetricWrapperBase, "labels", labels)
    metrics.count_answer("any", "stop", SPEC, 1.0)
    assert value(parse(metrics.render().decode()), "request_success_total") == 2


def answer_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "vlm_dlm_app.answers"]


def request_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "vlm_dlm_app.requests"]


def test_one_line_per_answer_with_its_cause_and_no_text(
    server: LiveServer, client: openai.OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    headers = {"X-Request-Id": "my-request"}
    create = client.chat.completions.create
    create(model="vlm-dlm:ar", messages=MESSAGES, extra_headers=headers)
    server.engine.play(Script(fail_after=1))
    with pytest.raises(openai.InternalServerError):
        create(model="vlm-dlm:ar", messages=MESSAGES)
    until(lambda: len(request_lines(caplog)) == 2)  # the last to be written
    good, bad = answer_lines(caplog)
    assert re.search(r"request=my-request client=[0-9a-f]{8} mode=ar cause=stop ", good)
    assert "cause=failed:engine_error" in bad
    text = "".join(record.getMessage() for record in caplog.records)
    assert "picture" not in text
    assert "forged" not in text
    assert "127.0.0.1" not in good + bad
    requests = request_lines(caplog)
    assert [line.split("status=")[1].split()[0] for line in requests] == ["200", "500"]
    assert "cause=engine_error" in requests[1]


def test_a_path_cannot_write_a_line_of_its_own(
    server: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    httpx.get(f"{server.url}/a%0d%0aINFO%20forged%1b[31m?key=secret", timeout=30, trust_env=False)
    until(lambda: bool(request_lines(caplog)))
    (line,) = request_lines(caplog)
    assert line.isprintable()
    assert "secret" not in line
    assert " forged" not in line


def test_n_answers_are_n_lines(
    server: LiveServer, client: openai.OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client.chat.completions.create(model="vlm-dlm:ar", messages=MESSAGES, n=3, temperature=1)
    until(lambda: len(answer_lines(caplog)) == 3)
    requests: list[GenerationRequest] = server.engine.requests
    assert len(requests) == 3


@pytest.mark.parametrize("fail_after", [0, 2])
def test_what_the_engine_lost_is_one_line_without_a_traceback(
    fail_after: int, server: LiveServer, client: openai.OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    server.engine.play(Script(fail_after=fail_after))
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="vlm-dlm:ar", messages=MESSAGES)
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert record.exc_info is None
