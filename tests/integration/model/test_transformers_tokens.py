"""The engine's greedy `ar` tokens equal transformers' own `generate` on the same weights.

Unlike the logits test this goes through the whole engine: packed rows, cache, chunked prefill.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.twins.mistral3 import IMAGE_TOKEN_ID, mistral3_twin, tiny_config
from vlm_dlm.decoding import MODES
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
from vlm_dlm.step import Token

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


def engine_tokens(
    model: VlmModel, prompt: PromptInput, max_prompt_rows: int, mode: str = "ar", **wanted: Any
) -> list[Token]:
    config = EngineConfig(max_cache_tokens=512, max_prompt_rows=max_prompt_rows)
    core = EngineCore(
        TorchRunner(model, IMAGE_TOKEN_ID, config),
        DecodingIds(MASK, frozenset({NEVER})),
        lambda skip_special: NoText(),
        config,
    )
    sampling = SamplingParams(max_tokens=NUM_NEW, **wanted)
    events = list(core.run([GenerationRequest("one", prompt, mode, sampling=sampling)]))
    return [t for event in events if isinstance(event, Committed) for t in event.tokens]


def twin_answer(model: VlmModel, prompt: PromptInput, **wanted: Any) -> tuple[list[int], Tensor]:
    """Tokens, and the logits [N, V] each was chosen from."""
    inputs: dict[str, Any] = {"input_ids": torch.tensor([prompt.token_ids])}
    if prompt.images:
        inputs["pixel_values"] = prompt.images[0].pixels[None]
        inputs["image_sizes"] = torch.tensor([prompt.images[0].pixels.shape[-2:]])
    twin = mistral3_twin(model)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    output = twin.generate(
        **inputs,
        **wanted,
        max_new_tokens=NUM_NEW,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    tokens = output.sequences[0, len(prompt.token_ids) :].tolist()
    return tokens, torch.cat(output.logits)


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
    own = [token.id for token in engine_tokens(model, prompt, max_prompt_rows)]
    assert len(own) == NUM_NEW
    assert len(set(own)) > 1, "a constant answer would prove nothing"
    assert own == twin_answer(model, prompt)[0]


@pytest.mark.parametrize("mode", [name for name in MODES if MODES[name].is_lossless])
@pytest.mark.parametrize("grid", [None, (2, 3)])
def test_logprobs_equal_those_of_transformers(
    model: VlmModel, mode: str, grid: tuple[int, int] | None
) -> None:
    prompt = prompt_with(25, 1, grid)
    own = engine_tokens(model, prompt, 1024, mode, num_logprobs=4)
    tokens, logits = twin_answer(model, prompt)
    assert [token.id for token in own] == tokens
    for token, row in zip(own, logits.log_softmax(-1), strict=True):
        assert token.logprobs is not None
        assert token.logprobs.own == pytest.approx(row[token.id].item(), abs=1e-4)
        values = torch.tensor([value for _, value in token.logprobs.top])
        torch.testing.assert_close(values, row.topk(4).values, atol=1e-4, rtol=0)
        assert token.logprobs.top[0][0] == token.id


@pytest.mark.parametrize("mode", [name for name in MODES if MODES[name].is_lossless])
@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        ({"repetition_penalty": 1.3}, {"repetition_penalty": 1.3}),
        ({"bad_words": ((35,), (40, 41))}, {"bad_words_ids": [[35], [40, 41]]}),
        ({"logit_bias": ((50, 3.0), (60, -4.0))}, {"sequence_bias": {(50,): 3.0, (60,): -4.0}}),
    ],
)
def test_penalties_give_the_tokens_of_transformers(
    model: VlmModel, mode: str, own: dict[str, Any], theirs: dict[str, Any]
) -> None:
    prompt = prompt_with(25, 1)
    tokens = [token.id for token in engine_tokens(model, prompt, 1024, mode, **own)]
    assert tokens == twin_answer(model, prompt, **theirs)[0]
