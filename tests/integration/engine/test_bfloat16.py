"""The published dtype runs in every mode; exact equalities belong to float32."""

from __future__ import annotations

import pytest
import torch

from tests.integration.engine.harness import ask, fresh_model, make_core, prompt_of, run
from tests.invariants import assert_no_pages_held
from vlm_dlm.decoding import MODES
from vlm_dlm.model.vlm import VlmModel


@pytest.fixture(scope="module")
def model() -> VlmModel:
    return fresh_model(2).to(torch.bfloat16)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_every_mode_runs_in_bfloat16(model: VlmModel, temperature: float) -> None:
    core = make_core(model, max_prompt_rows=5)
    batch = [ask(mode, mode, prompt_of(8), temperature=temperature) for mode in MODES]
    native = {"block_length": 4, "is_native_confidence": True}
    batch.append(ask("native", "diffusion", prompt_of(8), native, temperature=temperature))
    batch.append(ask("exact", "diffusion", prompt_of(9), native, temperature=temperature))
    answers = run(core, *batch)
    assert all(answer.ending in ("stop", "length") for answer in answers.values())
    assert_no_pages_held(core)


def test_a_repeated_request_repeats_its_answer(model: VlmModel) -> None:
    for mode in MODES:
        request = ask("a", mode, prompt_of(7), max_tokens=20)
        assert run(make_core(model), request) == run(make_core(model), request)
