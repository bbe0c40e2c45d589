"""The engine on a CUDA device: the same answers in float32, and bfloat16 runs through."""

from __future__ import annotations

import pytest
import torch

from tests.integration.engine.harness import core_of, fresh_model, tiny_model
from vlm_dlm.decoding import MODES
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.events import Committed, Finished
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def answers(model: VlmModel) -> dict[str, list[int]]:
    """All modes at once, so that the packed batch is mixed."""
    core = core_of(model, config=EngineConfig(max_cache_tokens=2048))
    sampling = SamplingParams(max_tokens=24)
    wanted = [
        GenerationRequest(mode, PromptInput((1, 2, 3, 4, 5 + i)), mode, sampling=sampling)
        for i, mode in enumerate(MODES)
    ]
    tokens: dict[str, list[int]] = {mode: [] for mode in MODES}
    num_finished = 0
    for event in core.run(wanted):
        if isinstance(event, Committed):
            tokens[event.request_id] += [token.id for token in event.tokens]
        num_finished += isinstance(event, Finished)
    assert num_finished == len(wanted)
    assert core.allocator.num_free == core.allocator.num_pages
    return tokens


def test_float32_answers_equal_those_of_the_cpu() -> None:
    assert answers(fresh_model().to("cuda")) == answers(tiny_model())


def test_bfloat16_runs_in_every_mode() -> None:
    assert all(answers(fresh_model().to("cuda", torch.bfloat16)).values())
