"""Autoregressive logits equal transformers' Mistral-3 on the same weights, text and images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.twins.dense_attention import DenseAttention
from tests.twins.mistral3 import IMAGE_TOKEN_ID, mistral3_twin, tiny_config
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.model.weights import new_model

NUM_TOKENS = 44  # three times original_max_position_embeddings=16, so all query scales differ


@pytest.fixture(scope="module")
def model() -> VlmModel:
    """Wider weights than the initial ones, so that no part hides behind the residual stream."""
    model = new_model(tiny_config(), seed=1).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.mul_(8.0)
        else:
            parameter.mul_(torch.linspace(0.5, 1.5, len(parameter)))
    return model


def causal_logits(model: VlmModel, embeds: Tensor) -> Tensor:
    """embeds [1, T, D] -> [1, T, V]."""
    length = embeds.shape[1]
    mask = torch.ones(1, length, length, dtype=torch.bool).tril()
    rotary = model.decoder.rotary_inputs(torch.arange(length), embeds.dtype)
    return model.logits(model.hidden(embeds, rotary, DenseAttention(mask)))


def text_ids(seed: int = 0) -> Tensor:
    return torch.randint(30, 160, (1, NUM_TOKENS), generator=torch.Generator().manual_seed(seed))


def assert_same(own: Tensor, reference: Tensor) -> None:
    assert reference.abs().max() > 0.5, "a flat reference would prove nothing"
    assert (own - reference).abs().max() < 1e-4
    assert torch.equal(own.argmax(-1), reference.argmax(-1))


def test_text_logits_equal_mistral3(model: VlmModel) -> None:
    ids = text_ids()
    assert_same(causal_logits(model, model.embed(ids)), mistral3_twin(model)(input_ids=ids).logits)


def test_text_logits_differ_without_query_scale(model: VlmModel) -> None:
    """The parity above would fail if positions past the original context were not scaled."""
    ids = text_ids()
    embeds = model.embed(ids)
    mask = torch.ones(1, NUM_TOKENS, NUM_TOKENS, dtype=torch.bool).tril()
    unscaled = model.decoder.rotary_inputs(torch.arange(NUM_TOKENS), embeds.dtype, max_position=15)
    assert unscaled.query_scale is None
    logits = model.logits(model.hidden(embeds, unscaled, DenseAttention(mask)))
    difference = (logits - causal_logits(model, embeds)).abs()
    assert difference[:, :16].max() < 1e-5
    assert difference[:, 16:].max() > 1e-3


def test_image_logits_equal_mistral3(model: VlmModel) -> None:
    """Two images of different size, each encoded in its own call by us, in one call by the twin."""
    grids = ((2, 3), (3, 2))
    pixels = [torch.randn(1, 3, 28 * h, 28 * w) for h, w in grids]
    ids = text_ids()
    ids[0, 4:10] = ids[0, 20:26] = IMAGE_TOKEN_ID
    embeds = model.embed(ids).clone()
    embeds[ids == IMAGE_TOKEN_ID] = torch.cat([model.encode_images(p)[0] for p in pixels])
    padded = torch.zeros(2, 3, 84, 84)
    for image, own in zip(padded, pixels, strict=True):
        image[:, : own.shape[2], : own.shape[3]] = own[0]
    twin = mistral3_twin(model)
    reference = twin(
        input_ids=ids,
        pixel_values=padded,
        image_sizes=torch.tensor([(28 * h, 28 * w) for h, w in grids]),
    ).logits
    assert_same(causal_logits(model, embeds), reference)
