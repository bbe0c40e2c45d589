"""Figures of an answer from the engine's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vlm_dlm.errors import DeadlineError, EngineError
from vlm_dlm.events import Committed, Failed, Finished, Started, Stats
from vlm_dlm.step import Origin, Token
from vlm_dlm_app.answering.answers import Answer, metrics_of, timings_of, usage_of
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.telemetry.metrics import Metrics

STATS = Stats(
    num_prompt_tokens=40,
    num_image_tokens=12,
    num_tokens=9,
    num_forwards=6,
    num_rows=50,
    queue_s=0.5,
    vision_s=0.1,
    prefill_s=0.3,
    decode_s=0.6,
    ttft_s=0.6,
    acceptance_lengths=(3, 1, 5),
    is_prompt_reused=False,
    forwards_by_kind={"draft": 3, "verify": 3},
    num_draft_tokens=12,
)


def test_usage_counts_the_prompt_once() -> None:
    usage = usage_of([STATS, replace(STATS, num_tokens=4, is_prompt_reused=True)])
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (40, 13, 53)
    assert usage.prompt_tokens_details.image_tokens == 12
    assert usage.prompt_tokens_details.cached_tokens == 0
    reused = usage_of([replace(STATS, is_prompt_reused=True)])
    assert reused.prompt_tokens_details.cached_tokens == 40


def test_timings() -> None:
    timings = timings_of(STATS)
    assert (timings.prompt_n, timings.prompt_ms, timings.prompt_per_second) == (40, 400.0, 100.0)
    assert (timings.predicted_n, timings.predicted_ms) == (9, 600.0)
    assert timings.predicted_per_second == 15.0
    assert (timings.draft_n, timings.draft_n_accepted, timings.cache_n) == (12, 6, 0)
    reused = timings_of(replace(STATS, is_prompt_reused=True))
    assert (reused.cache_n, reused.prompt_n, reused.prompt_per_second) == (40, 0, 0.0)


def test_metrics_of_a_mode_that_verifies() -> None:
    metrics = metrics_of(STATS, "linear_spec", "cpu", "float32")
    assert metrics.time_to_first_token_ms == 1100.0
    assert metrics.queue_time_ms == 500.0
    assert metrics.mean_itl_ms == 50.0  # 0.4 s after the first token, eight more
    assert metrics.tokens_per_forward == 1.5
    assert metrics.diffusion is None
    spec = metrics.speculative_decoding
    assert spec is not None
    assert spec.mean_acceptance_length == 3.0
    assert (spec.num_spec_steps, spec.num_accepted_draft_tokens) == (3, 6)
    assert (spec.num_draft_tokens, spec.draft_acceptance_rate) == (12, 0.5)
    assert spec.acceptance_histogram == [1, 0, 1, 0, 1]


def test_what_an_engine_does_not_say_is_null_and_not_invented() -> None:
    stats = replace(STATS, vision_s=None, prefill_s=None, num_prefill_forwards=None, num_cached=30)
    metrics, timings = metrics_of(stats, "ar", "vLLM, cpu", "float32"), timings_of(stats)
    assert (metrics.vision_time_ms, metrics.prefill_time_ms) == (None, None)
    assert (timings.prompt_ms, timings.prompt_per_second) == (None, None)
    assert metrics.time_to_first_token_ms == 1100.0
    assert metrics.mean_itl_ms == 75.0  # all of the writing is after the first token
    assert (timings.cache_n, timings.prompt_n) == (30, 10)
    assert usage_of([stats]).prompt_tokens_details.cached_tokens == 30
    counted = Metrics("m", ["ar"])
    counted.count_answer("ar", "stop", stats, 1.5)
    text = counted.render().decode()
    for name in ("request_prefill_time_seconds", "image_encode_time_seconds"):
        assert f'vlm_dlm_{name}_count{{mode="ar",model_name="m"}} 0.0' in text
    assert 'vlm_dlm_prefix_cache_hits_total{mode="ar",model_name="m"} 30.0' in text
    assert 'vlm_dlm_request_decode_time_seconds_count{mode="ar",model_name="m"} 1.0' in text


def test_metrics_of_a_mode_that_denoises() -> None:
    kinds = {"denoise": 9, "commit": 2}
    stats = replace(STATS, acceptance_lengths=None, forwards_by_kind=kinds, num_draft_tokens=0)
    metrics = metrics_of(stats, "diffusion", "cpu", "float32")
    assert metrics.speculative_decoding is None
    assert metrics.diffusion is not None
    assert metrics.diffusion.model_dump() == {
        "num_denoising_steps": 9,
        "num_blocks": 2,
        "num_commit_forwards": 2,
        "mean_steps_per_block": 4.5,
    }


def test_an_answer_without_tokens_has_figures() -> None:
    stats = replace(
        STATS, num_tokens=0, ttft_s=None, vision_s=0.0, prefill_s=0.0, decode_s=0.0,
        acceptance_lengths=(), num_draft_tokens=0,
    )  # fmt: skip
    metrics = metrics_of(stats, "linear_spec", "cpu", "float32")
    assert metrics.time_to_first_token_ms is None
    assert metrics.mean_itl_ms is None
    assert metrics.tokens_per_second == 0.0
    assert metrics.speculative_decoding is not None
    assert metrics.speculative_decoding.acceptance_histogram == []
    assert timings_of(stats).prompt_per_second == 0.0


def test_all_texts_make_the_answer() -> None:
    answer = Answer()
    token = Token(7, 0, 1, 1.0, Origin.AR)
    texts = [
        answer.add(Started("r", "ar", 3, 0, 0.0)),
        answer.add(Committed("r", (token, token), "ab", 1, 0.0)),
        answer.add(Finished("r", "stop", "c", STATS, 0.0)),
    ]
    assert texts == ["", "ab", "c"]
    assert (answer.text, answer.token_ids) == ("abc", [7, 7])
    assert answer.finished() is STATS


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (Failed("r", EngineError.code, "it broke", 0.0), 500),
        (Failed("r", DeadlineError.code, "too late", 0.0), 408),
        (Failed("r", "no such code", "x", 0.0), 500),
        (Finished("r", "abort", "", STATS, 0.0), 503),
        (None, 500),
    ],
)
def test_what_is_not_whole_is_an_error(event: Failed | Finished | None, status: int) -> None:
    answer = Answer()
    if event is not None:
        answer.add(event)
    with pytest.raises(ApiError) as raised:
        answer.finished()
    assert raised.value.status == status
