"""Far positions: past the original context, and past the engine's first rotary table."""

from __future__ import annotations

import pytest

from tests.integration.engine.harness import (
    ask,
    fresh_model,
    make_core,
    prompt_of,
    run,
    tiny_config,
    twin_answer,
)
from tests.twins.forward import DenseForward
from vlm_dlm.checkpoint.config import RopeConfig
from vlm_dlm.decoding import MODES
from vlm_dlm.model.vlm import VlmModel

SHORT_ROPE = RopeConfig(original_max_position_embeddings=16, factor=4.0, llama_4_scaling_beta=0.5)


@pytest.fixture(scope="module")
def model() -> VlmModel:
    return fresh_model(1, tiny_config(rope=SHORT_ROPE, max_position_embeddings=4096))


@pytest.mark.parametrize("length", [2, 12, 30, 70])
def test_all_modes_past_the_original_context(model: VlmModel, length: int) -> None:
    """Queries are scaled from position 16 on; blocks cross that border and its multiples."""
    batch = [ask(mode, mode, prompt_of(length, 1), max_tokens=24) for mode in MODES]
    answers = run(make_core(model), *batch)
    for request in batch:
        assert answers[request.request_id] == twin_answer(DenseForward(model), request)


def test_near_and_far_requests_share_a_forward(model: VlmModel) -> None:
    batch = [ask(str(i), "quadratic_spec", prompt_of(n, i)) for i, n in enumerate((1, 15, 60))]
    answers = run(make_core(model), *batch)
    for request in batch:
        assert answers[request.request_id] == twin_answer(DenseForward(model), request)


def test_rotary_tables_grow_while_a_request_runs(model: VlmModel) -> None:
    request = ask("a", "linear_spec", prompt_of(1018), max_tokens=12)
    answers = run(make_core(model), request, ask("b", "ar", prompt_of(3)))
    assert answers["a"] == twin_answer(DenseForward(model), request)
