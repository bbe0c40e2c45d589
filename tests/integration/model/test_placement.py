"""Weights that are spilled to the CPU and to disk give the same answers as weights in one place.

That loading takes memory for one copy is measured in `test_full_depth.py`.
"""

from __future__ import annotations

import gc
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.checkpoints import tiny_config as small_config
from tests.twins.dense_attention import DenseAttention
from tests.twins.mistral3 import tiny_config
from vlm_dlm.decoding import MODES
from vlm_dlm.defaults import cache_bytes_per_token
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.kv_cache import KvCache
from vlm_dlm.errors import CapacityError, CheckpointError
from vlm_dlm.model import placement
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.model.weights import load_model, new_model, save_model
from vlm_dlm.request import SamplingParams
from vlm_dlm.runtime import Runtime

CACHE_BYTES = cache_bytes_per_token(small_config(), "float32")  # of one token


def causal_logits(model: VlmModel) -> torch.Tensor:
    """One image, six features, then text: [1, 12, V]."""
    features = model.encode_images(torch.linspace(-1, 1, 3 * 56 * 84).reshape(1, 3, 56, 84))
    embeds = torch.cat((features, model.embed(torch.arange(30, 36)[None])), dim=1)
    rotary = model.decoder.rotary_inputs(torch.arange(12), model.dtype)
    attend = DenseAttention(torch.ones(1, 12, 12, dtype=torch.bool).tril())
    return model.logits(model.hidden(embeds, rotary, attend))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    save_model(new_model(tiny_config(), seed=6), folder)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cpu", ["30KB", "90KB"], ids=["all on disk", "some on disk"])
def test_spilling_to_disk_changes_no_answer(folder: Path, cpu: str, dtype: torch.dtype) -> None:
    whole = load_model(folder, dtype=dtype)
    spilled = load_model(folder, dtype=dtype, max_memory={"cpu": cpu})
    assert any(parameter.is_meta for parameter in spilled.parameters())
    assert spilled.device == torch.device("cpu")
    assert spilled.dtype == dtype
    assert torch.equal(causal_logits(spilled), causal_logits(whole))


def test_offload_folder_is_deleted_with_the_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spilled = load_model(folder, max_memory={"cpu": "30KB"})
    gc.collect()
    (offload,) = tmp_path.iterdir()
    assert (offload / "index.json").is_file()
    del spilled
    gc.collect()
    assert not offload.exists()


def test_offloaded_model_cannot_be_saved(folder: Path, tmp_path: Path) -> None:
    spilled = load_model(folder, max_memory={"cpu": "30KB"})
    with pytest.raises(CheckpointError, match="offloaded"):
        save_model(spilled, tmp_path)


def test_enough_memory_means_no_offload(folder: Path) -> None:
    model = load_model(folder, max_memory={"cpu": "1GB"})
    assert not any(parameter.is_meta for parameter in model.parameters())


def test_weights_that_do_not_fit_spill_by_themselves(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "_free_bytes", lambda device: 150_000)
    spilled = load_model(folder)
    assert any(parameter.is_meta for parameter in spilled.parameters())


def test_a_spilled_model_answers_in_every_mode_as_the_whole_one(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: engine, cache, drafts and verification over layers that come from disk."""
    limits = EngineConfig(max_cache_tokens=512, max_batched_tokens=256)
    answers: list[dict[str, tuple[int, ...]]] = []
    for free in (10**9, 120_000 + limits.max_cache_tokens * CACHE_BYTES):
        monkeypatch.setattr(placement, "_free_bytes", lambda device, free=free: free)
        runtime = Runtime.load(tiny_checkpoint, "cpu", "float32", engine_config=limits)
        is_spilled = any(parameter.is_meta for parameter in runtime.model.parameters())
        assert is_spilled is (free < 10**9)
        prompt = runtime.prompt("What is there?", [Image.new("RGB", (84, 56), "red")])
        report = runtime.compare(prompt, sampling=SamplingParams(max_tokens=12), is_warm=False)
        answers.append({result.mode: result.token_ids for result in report.results})
        runtime.close()
    assert set(answers[0]) == set(MODES)
    assert answers[1] == answers[0]


def test_memory_of_the_cache_is_set_aside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_free_bytes", lambda device: 10**9)
    assert not any(p.is_meta for p in load_model(folder, reserved_bytes=10**8).parameters())
    spilled = load_model(folder, reserved_bytes=10**9 - 150_000)
    assert any(parameter.is_meta for parameter in spilled.parameters())


def test_a_cache_without_memory_is_one_sentence() -> None:
    with pytest.raises(CapacityError, match="no memory for a cache of 1000000000000000 tokens"):
        KvCache(tiny_config(), 10**15, torch.device("cpu"), torch.float32)


def test_weights_that_do_not_fit_without_accelerate(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "_free_bytes", lambda device: 150_000)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setattr("vlm_dlm.model.weights.find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="install accelerate"):
        load_model(folder)


def test_plain_load_works_without_accelerate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = causal_logits(load_model(folder))
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setattr("vlm_dlm.model.weights.find_spec", lambda name: None)
    assert torch.equal(causal_logits(load_model(folder)), expected)


def test_two_accelerators_are_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="several accelerators"):
        load_model(folder, max_memory={0: "1GB", 1: "1GB"})
