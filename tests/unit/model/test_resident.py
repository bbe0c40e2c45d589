"""The straight-line decoder against the modules it stands for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.twins.mistral3 import tiny_config
from vlm_dlm.model import resident
from vlm_dlm.model.attention import Bounds, CachedAttention, RowGroup, visibility_mask
from vlm_dlm.model.linear import empty_weight, product
from vlm_dlm.model.module_decoder import ModuleDecoder
from vlm_dlm.model.resident import ResidentDecoder
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.model.weights import new_model
from vlm_dlm.step import Visibility

NUM_CACHED = 20  # past `original_max_position_embeddings`, so that queries are scaled


def _model(dtype: torch.dtype) -> VlmModel:
    model = new_model(tiny_config(), seed=5)
    for number, parameter in enumerate(model.parameters()):
        if parameter.dim() == 1:  # norms that do something
            parameter.data += 0.1 * torch.sin(torch.arange(len(parameter)) + number)
    return model.to(dtype).requires_grad_(False)


def _attention(data: Tensor, num_rows: int, seen: Visibility, is_alone: bool) -> CachedAttention:
    """One request in slots 3 and up, by slices and without a mask it does not need, as the runner
    has it, or by indices and with one, as in a mixed batch."""
    length = NUM_CACHED + num_rows
    mask = visibility_mask(
        seen, torch.tensor([NUM_CACHED]), num_rows, length, repeats=2, dtype=data.dtype
    )
    if is_alone and (num_rows == 1 or seen is Visibility.FULL):
        mask = None
    write: slice | Tensor = slice(3 + NUM_CACHED, 3 + length)
    slots: Tensor | None = None
    if not is_alone:
        write = torch.arange(3 + NUM_CACHED, 3 + length)
        slots = torch.arange(3, 3 + length)
    first = 3 if slots is None else 0
    return CachedAttention(
        data, write, [RowGroup(Bounds(0, num_rows, num_rows, first, length), slots, mask)]
    )


@pytest.mark.parametrize("seen", list(Visibility))
@pytest.mark.parametrize("num_rows", [1, 5])
@pytest.mark.parametrize("is_alone", [True, False])
@pytest.mark.parametrize("max_position", [0, None])  # 0: nobody needs the query scale
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.06)])
def test_equals_the_modules(
    seen: Visibility,
    num_rows: int,
    is_alone: bool,
    max_position: int | None,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    model = _model(dtype)
    embeds = torch.randn(num_rows, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
    before = torch.randn(3, 2, 64, 2, 16, generator=torch.Generator().manual_seed(2)).to(dtype)
    positions = torch.arange(NUM_CACHED, NUM_CACHED + num_rows)
    rotary = model.decoder.rotary_inputs(positions, dtype, max_position)
    outputs, caches = [], []
    for decoder in (ModuleDecoder(model), ResidentDecoder(model)):
        data = before.clone()
        with torch.inference_mode():
            attention = _attention(data, num_rows, seen, is_alone)
            outputs.append(decoder.hidden(embeds, rotary, attention))
        caches.append(data)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(caches[1], caches[0], rtol=tolerance, atol=tolerance)
    assert not torch.equal(caches[0], before)


@pytest.mark.parametrize("num_rows", [1, 5])
@pytest.mark.parametrize("max_position", [0, None])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.06)])
def test_ids_to_logits_equal_the_modules(
    num_rows: int, max_position: int | None, dtype: torch.dtype, tolerance: float
) -> None:
    model = _model(dtype)
    ids = torch.arange(7, 7 + num_rows)
    before = torch.randn(3, 2, 64, 2, 16, generator=torch.Generator().manual_seed(2)).to(dtype)
    everywhere = torch.arange(NUM_CACHED + num_rows + 9)
    tables = model.decoder.rotary_inputs(everywhere, dtype, max_position)
    here = model.decoder.rotary_inputs(everywhere[NUM_CACHED:][:num_rows], dtype, max_position)
    wanted_data = before.clone()
    with torch.inference_mode():
        attention = _attention(wanted_data, num_rows, Visibility.FULL, True)
        wanted = model.logits(model.hidden(model.embed(ids), here, attention))
    for decoder in (ModuleDecoder(model), ResidentDecoder(model)):
        data = before.clone()
        with torch.inference_mode():
            logits = decoder.logits_alone(ids, tables, data, 3, NUM_CACHED)
        torch.testing.assert_close(logits, wanted, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(data, wanted_data, rtol=tolerance, atol=tolerance)
        assert not torch.equal(data, before)


def test_runs_without_torchscript(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model(torch.float32)
    embeds = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    rotary = model.decoder.rotary_inputs(torch.arange(NUM_CACHED, NUM_CACHED + 2), torch.float32)
    scripted = ResidentDecoder(model)
    assert isinstance(scripted._stack, torch.jit.ScriptModule)
    monkeypatch.setattr(torch.jit, "script", _refuse)
    plain = ResidentDecoder(model)
    assert not isinstance(plain._stack, torch.jit.ScriptModule)
    outputs = [
        decoder.hidden(
            embeds, rotary, _attention(torch.zeros(3, 2, 64, 2, 16), 2, Visibility.CAUSAL, True)
        )
        for decoder in (scripted, plain)
    ]
    assert torch.equal(*outputs)


def _refuse(module: object) -> None:
    raise RuntimeError("no TorchScript here")


def test_weights_are_shared() -> None:
    model = _model(torch.float32)
    stack = resident._Stack(model.decoder, model.diffusion_head.weight)
    first: Any = model.decoder.layers[0]
    assert stack.layers[0].qkv.data_ptr() == first.self_attn.qkv_proj.weight.data_ptr()


@pytest.mark.parametrize("num_rows", [1, 3, 40])
@pytest.mark.parametrize("is_product", [True, False])
def test_product_in_both_layouts(num_rows: int, is_product: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = empty_weight((24, 16), torch.float32, torch.device("cpu"), is_product)
    weight.copy_(torch.randn(24, 16, generator=generator))
    x = torch.randn(num_rows, 16, generator=generator)
    assert weight.is_contiguous() != is_product
    torch.testing.assert_close(product(x, weight), x @ weight.T, rtol=1e-5, atol=1e-5)
