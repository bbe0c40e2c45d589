"""The draft adapter touches the rows that ask for it, and no other bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.twins.dense_attention import DenseAttention
from tests.twins.mistral3 import tiny_config
from vlm_dlm.errors import CheckpointError
from vlm_dlm.model.lora import AdapterRows
from vlm_dlm.model.lora_loading import load_draft_adapter
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.model.weights import new_model

RANK, ALPHA = 4, 16
WIDTH, ATTENTION_WIDTH, NUM_LAYERS = 32, 64, 3
PREFIX = "base_model.model.encoder.layers"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in range(NUM_LAYERS):
        name = f"{PREFIX}.{layer}.self_attn.o_proj"
        tensors[f"{name}.lora_A.weight"] = torch.randn(RANK, ATTENTION_WIDTH, generator=generator)
        tensors[f"{name}.lora_B.weight"] = torch.randn(WIDTH, RANK, generator=generator)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    options = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": ["o_proj"],
        "bias": "none",
        "lora_dropout": 0.0,
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(options))
    return tmp_path


def edit_options(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_tensors(folder: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = dict(load_file(path))
    edit(tensors)
    save_file(tensors, path)


def tiny_model(seed: int = 0) -> VlmModel:
    return new_model(tiny_config(vision=None), seed).eval().requires_grad_(False)


def test_every_layer_gets_its_matrices_and_the_scale(folder: Path) -> None:
    model = tiny_model()
    assert not model.has_draft_adapter
    load_draft_adapter(model, folder)
    assert model.has_draft_adapter
    tensors = load_file(folder / "adapter_model.safetensors")
    for index, layer in enumerate(model.decoder.layers):
        attention: Any = layer.self_attn
        lora = attention.draft_lora
        name = f"{PREFIX}.{index}.self_attn.o_proj"
        assert torch.equal(lora.lora_A, tensors[f"{name}.lora_A.weight"])
        assert torch.equal(lora.lora_B, tensors[f"{name}.lora_B.weight"])
        assert lora.scale == 4.0
        assert not lora.lora_A.requires_grad


def test_adapter_rows_equal_explicit_weights_and_others_are_bit_identical(folder: Path) -> None:
    """One layer's o_proj on packed rows [T, D]."""
    model = tiny_model()
    attention: Any = model.decoder.layers[1].self_attn
    x = torch.randn(7, ATTENTION_WIDTH)
    plain = attention.o_proj(x)
    load_draft_adapter(model, folder)
    lora = attention.draft_lora
    adapted = x @ (attention.o_proj.weight + 4.0 * lora.lora_B @ lora.lora_A).T
    rows, others = torch.tensor([1, 2, 5]), torch.tensor([0, 3, 4, 6])
    mixed = lora(x, plain, AdapterRows(rows))
    assert (adapted - plain).abs().max() > 1.0
    torch.testing.assert_close(mixed[rows], adapted[rows], rtol=1e-4, atol=1e-4)
    assert torch.equal(mixed[others], plain[others])
    torch.testing.assert_close(lora(x, plain, AdapterRows(None)), adapted, rtol=1e-4, atol=1e-4)


def test_whole_forward_equals_merged_weights(folder: Path) -> None:
    model, merged = tiny_model(), tiny_model()
    load_draft_adapter(model, folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    for index, layer in enumerate(merged.decoder.layers):
        name = f"{PREFIX}.{index}.self_attn.o_proj"
        down, up = tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"]
        attention: Any = layer.self_attn
        attention.o_proj.weight += 4.0 * up @ down
    attend = DenseAttention(torch.ones(1, 20, 20, dtype=torch.bool).tril())
    rotary = model.decoder.rotary_inputs(torch.arange(20), torch.float32)
    embeds = model.embed(torch.arange(20)[None])
    with_adapter = model.hidden(embeds, rotary, attend, AdapterRows(None))
    torch.testing.assert_close(
        with_adapter, merged.hidden(embeds, rotary, attend), rtol=1e-4, atol=1e-4
    )
    without = model.hidden(embeds, rotary, attend)
    assert torch.equal(without, tiny_model().hidden(embeds, rotary, attend))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target_modules": ["o_proj", "q_proj"]}, "only o_proj"),
        ({"use_rslora": True}, "use_rslora=True"),
        ({"bias": "all"}, "bias='all'"),
        ({"r": 0}, "rank r >= 1"),
        ({"r": 5}, "of the wrong shape"),
        ({"lora_alpha": None}, "lora_alpha"),
    ],
)
def test_unsupported_options_are_refused(folder: Path, changes: dict[str, Any], words: str) -> None:
    edit_options(folder, **changes)
    with pytest.raises(CheckpointError, match=words):
        load_draft_adapter(tiny_model(), folder)


def test_missing_and_unexpected_tensors_are_refused(folder: Path) -> None:
    last = f"{PREFIX}.{NUM_LAYERS - 1}.self_attn.o_proj.lora_B.weight"
    extra = f"{PREFIX}.{NUM_LAYERS}.self_attn.o_proj.lora_B.weight"
    edit_tensors(folder, lambda tensors: tensors.update({extra: tensors.pop(last)}))
    model = tiny_model()
    with pytest.raises(CheckpointError, match=r"1 missing .*layers\.2.*1 unexpected .*layers\.3"):
        load_draft_adapter(model, folder)
    assert not model.has_draft_adapter


def test_folder_without_adapter(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no adapter_config\.json"):
        load_draft_adapter(tiny_model(), tmp_path)
