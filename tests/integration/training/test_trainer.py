"""A toy run of the whole training path: it learns, it resumes exactly, its export loads."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vlm_dlm.errors import CheckpointError
from vlm_dlm.model.weights import load_model
from vlm_dlm.processor.processor import Processor
from vlm_dlm.training.recipe import Recipe
from vlm_dlm.training.trainer import _runnable, train

TOY = Recipe(
    num_entries=300,
    hidden_size=32,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=16,
    intermediate_size=64,
    vision_hidden_size=32,
    vision_layers=1,
    vision_heads=2,
    vision_intermediate_size=64,
    max_side=84,
    num_tokenizer_texts=100,
    vision_steps=4,
    joint_steps=12,
    vision_cells=64,
    row_tokens=1200,
    warmup_steps=2,
    prefix_buckets=(32, 64, 96),
    lesson_steps=4,
    eval_batches=1,
    eval_seconds=0.0,
    log_every=1,
    vision_muon_lr=0.05,
    adam_lr=0.01,
    checkpoint_seconds=1e9,
    num_workers=0,
    compile_layers=False,
)


class Interrupted(Exception):
    """Raised by the test's progress callback."""


def log_of(out: Path) -> list[dict[str, Any]]:
    lines = (out / "state" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    train(TOY, out, minutes=1.0, seed=3)
    return out


def test_loss_falls(finished: Path) -> None:
    records = [record for record in log_of(finished) if "heldout_loss" in record]
    for stage in ("vision", "joint"):
        losses = [record["heldout_loss"] for record in records if record["stage"] == stage]
        assert losses[-1] < losses[0]
    next_losses = [record["heldout_next_loss"] for record in records if record["stage"] == "joint"]
    assert next_losses[-1] < 0.95 * next_losses[0]


def test_export_loads(finished: Path) -> None:
    model = load_model(finished, "cpu", torch.float32)
    processor = Processor.from_folder(finished, model.config)
    assert processor.preprocessor.mean == TOY.image_mean
    provenance = json.loads((finished / "training.json").read_text(encoding="utf-8"))
    assert provenance["steps"] == {"vision": 4, "joint": 12}
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "state",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.json",
    }


@pytest.mark.parametrize("stage", ["vision", "joint"])
def test_resumed_run_equals_uninterrupted_run(finished: Path, tmp_path: Path, stage: str) -> None:
    def interrupt(record: dict[str, Any]) -> None:
        if record["stage"] == stage and record["step"] == 3:
            raise Interrupted

    recipe = replace(TOY, checkpoint_seconds=0.0, eval_seconds=1e9)
    with pytest.raises(Interrupted):
        train(recipe, tmp_path, minutes=1.0, seed=3, progress=interrupt)
    train(recipe, tmp_path, minutes=1.0, seed=3, resume=True)
    expected, resumed = load_model(finished), load_model(tmp_path)
    for (name, one), two in zip(expected.named_parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, two, msg=name)


def test_state_and_resume_must_agree(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no state"):
        train(TOY, tmp_path, minutes=1.0, resume=True)
    with pytest.raises(CheckpointError, match="already"):
        train(TOY, finished, minutes=1.0)


def test_a_resumed_run_keeps_its_seed_and_its_recipe(finished: Path) -> None:
    with pytest.raises(CheckpointError, match="begun with seed 3, not 4"):
        train(TOY, finished, minutes=1.0, seed=4, resume=True)
    changed = replace(TOY, muon_lr=0.5, vision_share=0.5, log_every=7)
    with pytest.raises(CheckpointError, match="other settings: muon_lr, vision_share"):
        train(changed, finished, minutes=1.0, resume=True)


def test_a_state_without_a_recipe_can_be_resumed(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "state", tmp_path / "state")
    path = tmp_path / "state" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state["recipe"]
    torch.save(state, path)
    train(TOY, tmp_path, minutes=1.0, resume=True)
    kept = torch.load(path, weights_only=True)
    assert kept["recipe"]["hidden_size"] == TOY.hidden_size
    assert kept["seed"] == 3


@pytest.mark.parametrize(
    ("compiler", "is_compiled"), [("no-such-compiler -O3", False), ("sh", True)]
)
def test_layers_are_compiled_where_there_is_a_compiler(
    compiler: str,
    is_compiled: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("CXX", compiler)
    recipe = _runnable(replace(TOY, compile_layers=True))
    assert recipe.compile_layers == is_compiled
    assert ("no C++ compiler (no-such-compiler)" in caplog.text) == (not is_compiled)


def test_start_from_a_finished_checkpoint(finished: Path, tmp_path: Path) -> None:
    recipe = replace(TOY, vision_steps=1, joint_steps=1, joint_vision_factor=0.0)
    train(recipe, tmp_path, minutes=1.0, seed=3, start=finished)
    names = ("tokenizer.json", "chat_template.jinja")
    assert all((tmp_path / n).read_bytes() == (finished / n).read_bytes() for n in names)
    losses = [
        next(r["heldout_next_loss"] for r in log_of(out) if "heldout_next_loss" in r)
        for out in (finished, tmp_path)
    ]
    assert losses[1] < losses[0]  # after one joint step each
    provenance = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))
    assert provenance["begins_with_trained_weights"]


def test_frozen_tower_stays(finished: Path, tmp_path: Path) -> None:
    recipe = replace(TOY, vision_steps=1, joint_steps=2, joint_vision_factor=0.0)
    train(recipe, tmp_path, minutes=1.0, seed=3, start=finished)
    states = [
        torch.load(tmp_path / "state" / name, weights_only=True)["model"]
        for name in ("after_vision.pt", "checkpoint.pt")
    ]
    moved = {name for name in states[0] if not torch.equal(states[0][name], states[1][name])}
    assert any(name.startswith("vision.multi_modal_projector.") for name in moved)
    assert not any(name.startswith("vision.vision_tower.") for name in moved)


def test_start_must_fit(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="another architecture"):
        train(replace(TOY, hidden_size=64), tmp_path / "a", minutes=1.0, start=finished)
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(finished / "config.json", bare)
    with pytest.raises(CheckpointError, match="tokenizer"):
        train(TOY, tmp_path / "b", minutes=1.0, start=bare)
    with pytest.raises(CheckpointError, match="no other start"):
        train(TOY, finished, minutes=1.0, resume=True, start=finished)
