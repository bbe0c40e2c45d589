"""Save and load: every tensor returns to its place, in any file layout; faults cost no memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.twins.mistral3 import checkpoint_tensors, tiny_config
from vlm_dlm.checkpoint.config import TEXT_TYPE, ModelConfig, VisionConfig
from vlm_dlm.checkpoint.model_types import read_config
from vlm_dlm.errors import CheckpointError
from vlm_dlm.model import weights
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.model.weights import empty_model, load_model, new_model, save_model


def assert_equal(model: VlmModel, other: VlmModel, dtype: torch.dtype = torch.float32) -> None:
    state, expected = model.state_dict(), other.state_dict()
    assert state.keys() == expected.keys()
    for name, value in state.items():
        assert torch.equal(value.to(dtype), expected[name].to(dtype)), name


def shard(folder: Path, num_shards: int) -> None:
    """Rewrite a single-file checkpoint as shards with an index."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    weight_map = {}
    for number in range(num_shards):
        file = f"model-{number + 1:05}-of-{num_shards:05}.safetensors"
        members = names[number::num_shards]
        save_file({name: tensors[name] for name in members}, folder / file)
        weight_map |= dict.fromkeys(members, file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()


@pytest.fixture(scope="module")
def model() -> VlmModel:
    return new_model(tiny_config(), seed=3)


@pytest.fixture
def folder(model: VlmModel, tmp_path: Path) -> Path:
    save_model(model, tmp_path / "checkpoint", dtype=torch.float32)
    return tmp_path / "checkpoint"


def test_vlm_8b_modules_hold_every_parameter_once() -> None:
    model = empty_model(ModelConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_918_034_432
    assert all(parameter.is_meta for parameter in model.parameters())
    assert list(model.buffers()) == [], "a buffer would not be restored from the checkpoint"


def test_vlm_8b_names_at_small_widths_round_trip(tmp_path: Path) -> None:
    vision = VisionConfig(hidden_size=8, intermediate_size=8, num_attention_heads=2, head_dim=4)
    config = tiny_config(
        num_hidden_layers=34, hidden_size=8, intermediate_size=8, head_dim=4, vision=vision
    )
    model = new_model(config, seed=5)
    save_model(model, tmp_path, dtype=torch.float32)
    assert len(load_file(tmp_path / "model.safetensors")) == 531
    assert_equal(load_model(tmp_path), model)
    assert read_config(tmp_path) == config
    shard(tmp_path, 3)
    assert_equal(load_model(tmp_path), model)


def test_file_holds_the_separate_tensors(model: VlmModel, folder: Path) -> None:
    stored, expected = load_file(folder / "model.safetensors"), checkpoint_tensors(model)
    assert stored.keys() == expected.keys()
    assert all(torch.equal(stored[name], expected[name]) for name in stored)


def test_text_only_model_round_trips(tmp_path: Path) -> None:
    model = new_model(tiny_config(model_type=TEXT_TYPE, vision=None), seed=0)
    save_model(model, tmp_path, dtype=torch.float32)
    loaded = load_model(tmp_path)
    assert_equal(loaded, model)
    with pytest.raises(CheckpointError, match="no vision tower"):
        loaded.encode_images(torch.zeros(1, 3, 28, 28))


def test_saved_dtype_is_bfloat16_unless_told(model: VlmModel, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    assert_equal(load_model(tmp_path), model, torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loaded_model_is_frozen_and_ready(folder: Path, dtype: torch.dtype) -> None:
    loaded = load_model(folder, dtype=dtype)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
    assert loaded.dtype == dtype
    assert loaded.device == torch.device("cpu")
    assert loaded.encode_images(torch.zeros(1, 3, 28, 56)).dtype == dtype


def test_progress_counts_bytes_up_to_the_total(model: VlmModel, folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    load_model(folder, dtype=torch.bfloat16, progress=lambda *step: seen.append(step))
    total = 2 * sum(parameter.numel() for parameter in model.parameters())
    assert {step[1] for step in seen} == {total}
    assert seen[-1][0] == total
    assert [step[0] for step in seen] == sorted(step[0] for step in seen)


def test_faults_are_found_before_anything_is_built(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "empty_model", lambda config: pytest.fail("model was built"))
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="truncated"):
        load_model(folder)


def test_mismatch_with_config_is_refused(folder: Path) -> None:
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**raw, "intermediate_size": 50}))
    with pytest.raises(CheckpointError, match="9 of the wrong shape"):
        load_model(folder)


def test_interrupted_save_leaves_the_old_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    before = (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr(weights, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_model(new_model(tiny_config(), seed=4), folder)
    assert (folder / "model.safetensors").read_bytes() == before


def test_loaded_weights_outlive_the_file(model: VlmModel, folder: Path) -> None:
    loaded = load_model(folder)
    (folder / "model.safetensors").write_bytes(b"")
    shutil.rmtree(folder)
    assert_equal(loaded, model)


def test_new_model_depends_on_the_seed_alone() -> None:
    first, second = new_model(tiny_config(), seed=1), new_model(tiny_config(), seed=1)
    assert_equal(first, second)
    other = new_model(tiny_config(), seed=2)
    assert not torch.equal(first.diffusion_head.weight, other.diffusion_head.weight)


def test_new_model_is_trainable_with_norms_at_one() -> None:
    model = new_model(tiny_config(), seed=1)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad
        if parameter.dim() == 1:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.2), name
