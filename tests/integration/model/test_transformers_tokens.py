"""The engine's greedy `ar` tokens equal transformers' own `generate` on the same weights.

Unlike the logits test this goes through the whole engine: packed rows, cache, chunked prefill.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.twins.mistral3 import IMAGE_TOKEN_ID, mistral3_twin, tiny_config
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.core import EngineCore
from vlm_dlm.engine.torch_runner import TorchRunner
from vlm_dlm.events import Committed
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.model.weights import new_model
from vlm_dlm.request import (
    DecodingIds,
    GenerationRequest,
    ImageInput,
    PromptInput,
    SamplingParams,
)

NUM_NEW = 30
MASK, NEVER = 100, -1


class NoText:
    """Stands in for a tokenizer: ids are all this test looks at."""

    def push(self, token_ids: list[int]) -> str:
        return ""

    def flush(self) -> str:
        return ""


@pytest.fixture(scope="module")
def model() -> VlmModel:
    """Spread-out weights, so that answers vary; prompt and answer pass four rotary periods."""
    model = new_model(tiny_config(max_position_embeddings=256), seed=3).eval()
    for parameter in model.requires_grad_(False).parameters():
        if parameter.dim() > 1:
            parameter.mul_(8.0)
    model.diffusion_head.weight[MASK] = 0.0
    return model


def engine_tokens(model: VlmModel, prompt: PromptInput, max_prompt_rows: int) -> list[int]:
    config = EngineConfig(max_cache_tokens=512, max_prompt_rows=max_prompt_rows)
    core = EngineCore(
        TorchRunner(model, IMAGE_TOKEN_ID, config),
        DecodingIds(MASK, frozenset({NEVER})),
        lambda skip_special: NoText(),
        config,
    )
    request = GenerationRequest("one", prompt, sampling=SamplingParams(max_tokens=NUM_NEW))
    events = list(core.run([request]))
    return [t.id for event in events if isinstance(event, Committed) for t in event.tokens]


def twin_tokens(model: VlmModel, prompt: PromptInput) -> list[int]:
    inputs: dict[str, Any] = {"input_ids": torch.tensor([prompt.token_ids])}
    if prompt.images:
        inputs["pixel_values"] = prompt.images[0].pixels[None]
        inputs["image_sizes"] = torch.tensor([prompt.images[0].pixels.shape[-2:]])
    twin = mistral3_twin(model)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    output = twin.generate(
        **inputs, max_new_tokens=NUM_NEW, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    return output[0, len(prompt.token_ids) :].tolist()


def prompt_with(num_text: int, seed: int, grid: tuple[int, int] | None = None) -> PromptInput:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(30, 99, (num_text,), generator=generator).tolist()
    if grid is None:
        return PromptInput(tuple(ids))
    rows, columns = grid
    pixels = torch.randn(3, 28 * rows, 28 * columns, generator=generator)
    pads = [IMAGE_TOKEN_ID] * (rows * columns)
    image = ImageInput(pixels, f"image {seed}", len(pads))
    return PromptInput((*ids[:3], *pads, *ids[3:]), (image,))


@pytest.mark.parametrize("max_prompt_rows", [1024, 5])
@pytest.mark.parametrize("grid", [None, (2, 3)])
@pytest.mark.parametrize(("num_text", "seed"), [(6, 0), (25, 1), (70, 2)])
def test_greedy_tokens_equal_transformers_generate(
    model: VlmModel,
    num_text: int,
    seed: int,
    grid: tuple[int, int] | None,
    max_prompt_rows: int,
) -> None:
    """70 + 30 tokens lie past six times original_max_position_embeddings = 16."""
    prompt = prompt_with(num_text, seed, grid)
    own = engine_tokens(model, prompt, max_prompt_rows)
    assert len(own) == NUM_NEW
    assert len(set(own)) > 1, "a constant answer would prove nothing"
    assert own == twin_tokens(model, prompt)
