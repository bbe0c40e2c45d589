"""What counts as memory of this machine: weights where they will lie, processes it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vlm_dlm import devices
from vlm_dlm.devices import seems_to_have_cuda
from vlm_dlm.preflight import Checkpoint, open_checkpoint
from vlm_dlm.processor.chat_template import ChatTemplate
from vlm_dlm.processor.prompt import PromptBuilder
from vlm_dlm.serving.memory_budget import LEAST, TEMPLATES, fixed_bytes
from vlm_dlm_app.settings import budgeting
from vlm_dlm_app.settings.budgeting import memory_budget
from vlm_dlm_app.settings.model import Settings

GIB = 2**30


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with a GPU and a torch for it."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "FOLDER", tmp_path)
    monkeypatch.setattr(devices, "_LIBRARY", "libtorch_*")
    (tmp_path / "nvidia0").touch()
    return tmp_path


def test_a_gpu_is_seen_where_torch_can_use_it(gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seems_to_have_cuda()
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert not seems_to_have_cuda()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert seems_to_have_cuda()
    monkeypatch.setattr(devices, "_LIBRARY", "no such library")
    assert not seems_to_have_cuda()
    monkeypatch.setattr(devices, "_LIBRARY", "libtorch_*")
    (gpu / "nvidia0").rename(gpu / "nvidiactl")
    assert not seems_to_have_cuda()


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """Weights as large as the memory."""
    monkeypatch.setattr(budgeting, "memory_limit", lambda: 16 * GIB)
    found = open_checkpoint()
    return replace(found, config=replace(found.config, vocab_size=2 * 10**6, hidden_size=2**12))


def test_weights_on_the_gpu_take_none_of_the_pictures_memory(gpu: Path, large: Checkpoint) -> None:
    assert memory_budget(Settings(), large).decode > 12 * LEAST[0]
    assert memory_budget(Settings(device="cuda"), large).decode > 12 * LEAST[0]
    assert memory_budget(Settings(device="cpu"), large).decode == LEAST[0]
    (gpu / "nvidia0").unlink()
    assert memory_budget(Settings(), large).decode == LEAST[0]


def test_a_templates_processes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgeting, "memory_limit", lambda: 2 * GIB)
    plain = open_checkpoint()
    prompts = PromptBuilder(plain.processor.tokenizer, ChatTemplate("{{ messages[0].content }}"))
    own = replace(plain, processor=replace(plain.processor, prompts=prompts))
    more = fixed_bytes(None, "x", has_template=True) - fixed_bytes(None, "x")
    assert more == TEMPLATES
    assert memory_budget(Settings(), own).decode < memory_budget(Settings(), plain).decode
