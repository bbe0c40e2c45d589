"""A further model type is one row: config, tensor names, special tokens, template."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from vlm_dlm.checkpoint import schema
from vlm_dlm.checkpoint.config import VLM_TYPE, ModelConfig
from vlm_dlm.checkpoint.model_types import (
    IMAGE_TOKENS,
    MODEL_TYPES,
    ModelType,
    SpecialTokens,
    parse_config,
    read_config,
)
from vlm_dlm.checkpoint.tensors import Shape, published_tensors
from vlm_dlm.errors import CheckpointError
from vlm_dlm.model.quantization import weight_bytes
from vlm_dlm.model.weights import load_model, save_model
from vlm_dlm.preflight import open_checkpoint
from vlm_dlm.processor.prompt import Message
from vlm_dlm.request import SamplingParams
from vlm_dlm.runtime import Runtime

MADE_UP = "made_up"
RENAMED = {
    "<SPECIAL_100>": "<hole>",
    "<|im_start|>": "<turn>",
    "<think>": "<muse>",
    "</think>": "</muse>",
    "<|image_pad|>": "<pixel>",
}
TEMPLATE = (
    "{% for m in messages %}<turn>{{ m.role }}:{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for p in m.content %}"
    "{% if p.type == 'text' %}{{ p.text }}{% else %}<|image_start|>{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>{% endfor %}<turn>"
)


def _name(published: str) -> str:
    return published.replace("encoder.", "model.").replace("diffusion_head.", "lm_head.")


def _parse(raw: dict[str, Any]) -> ModelConfig:
    config = schema.parse_vlm({**raw, "num_hidden_layers": raw["depth"]})
    return replace(config, model_type=MADE_UP)


def _written(config: ModelConfig) -> dict[str, Any]:
    raw = schema.written(config)
    return {**raw, "depth": raw.pop("num_hidden_layers")}


def _tensors(config: ModelConfig) -> dict[str, Shape]:
    return {_name(name): shape for name, shape in published_tensors(config).items()}


ROW = ModelType(
    "MadeUpModel",
    _parse,
    _written,
    _tensors,
    (
        ("model.vision_tower.", "vision.vision_tower."),
        ("model.multi_modal_projector.", "vision.multi_modal_projector."),
        ("model.", "decoder."),
        ("lm_head.", "diffusion_head."),
    ),
    SpecialTokens(
        mask="<hole>",
        im_start="<turn>",
        think_start="<muse>",
        think_end="</muse>",
        image={RENAMED.get(text, text): number for text, number in IMAGE_TOKENS.items()},
    ),
    TEMPLATE,
)


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny checkpoint as one of the made-up type would be published, without a template."""
    monkeypatch.setitem(MODEL_TYPES, MADE_UP, ROW)
    tensors = load_file(tiny_checkpoint / "model.safetensors")
    renamed = {_name(name): tensor for name, tensor in tensors.items()}
    save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = replace(read_config(tiny_checkpoint), model_type=MADE_UP)
    (tmp_path / "config.json").write_text(json.dumps(_written(config)))
    text = (tiny_checkpoint / "tokenizer.json").read_text()
    for old, new in RENAMED.items():
        text = text.replace(old, new)
    (tmp_path / "tokenizer.json").write_text(text)
    settings = (tiny_checkpoint / "preprocessor_config.json").read_text()
    (tmp_path / "preprocessor_config.json").write_text(settings)
    return tmp_path


def test_it_answers_in_every_mode(folder: Path, scene_file: Path) -> None:
    found = open_checkpoint(folder)
    special = found.processor.tokenizer.special
    assert special.mask == 100
    assert special.image is not None
    assert special.image.pad == IMAGE_TOKENS["<|image_pad|>"]
    assert not found.processor.has_own_template, "one of the table needs no process"
    runtime = Runtime.load(folder, device="cpu")
    prompt = runtime.prompt("What is it?", [scene_file])
    sampling = SamplingParams(max_tokens=12)
    found_ids = {
        result.mode: result.token_ids
        for result in runtime.compare(prompt, sampling=sampling).results
    }
    assert found_ids["ar"] == found_ids["linear_spec"] == found_ids["quadratic_spec"]
    assert all(found_ids.values())


def test_its_tensors_are_read_and_written_under_its_names(
    folder: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model, same = load_model(folder), load_model(tiny_checkpoint)
    own = dict(same.named_parameters())
    assert all(value.equal(own[name]) for name, value in model.named_parameters())
    out = tmp_path_factory.mktemp("written")
    save_model(model, out)
    assert load_file(out / "model.safetensors").keys() == _tensors(model.config).keys()
    assert json.loads((out / "config.json").read_text())["architectures"] == ["MadeUpModel"]
    assert read_config(out) == model.config


def test_its_layers_are_quantized_too(folder: Path, tiny_checkpoint: Path) -> None:
    own, same = read_config(folder), read_config(tiny_checkpoint)
    assert weight_bytes(own, 4, "int8") == weight_bytes(same, 4, "int8") < weight_bytes(own, 4)


def test_past_thoughts_go_by_its_marks(folder: Path) -> None:
    processor = open_checkpoint(folder).processor
    said = (Message.of("user", "a"), Message.of("assistant", "<muse>no</muse>yes"))
    ids = processor.prepare((*said, Message.of("user", "b"))).token_ids
    text = processor.tokenizer.decode(ids)
    assert "no" not in text
    assert "yes" in text


def test_without_its_row_it_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(MODEL_TYPES, MADE_UP)
    with pytest.raises(CheckpointError, match=f"model_type 'made_up'; supported are {VLM_TYPE}, "):
        read_config(folder)


@pytest.mark.parametrize("name", [None, 3, ["x"], {"a": 1}])
def test_a_type_that_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(CheckpointError, match="model_type"):
        parse_config({"model_type": name})
