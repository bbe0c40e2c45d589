"""A quantized checkpoint: its memory while loading and after, its answers, what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.twins.mistral3 import tiny_config
from vlm_dlm.checkpoint.config import TEXT_TYPE
from vlm_dlm.decoding import MODES
from vlm_dlm.errors import CheckpointError
from vlm_dlm.model import placement
from vlm_dlm.model.quantization import SCHEMES, weight_bytes
from vlm_dlm.model.weights import load_model, new_model, save_model
from vlm_dlm.report import ModeResult
from vlm_dlm.request import SamplingParams
from vlm_dlm.runtime import Runtime
from vlm_dlm.serving.launch import Launch
from vlm_dlm.serving.loading import load_engine, prepare, warm_up

pytest.importorskip("torchao", reason="torchao is not installed (extra quantize)")
ROOT = Path(__file__).parents[3]
LOSSLESS = [name for name, mode in MODES.items() if mode.is_lossless]
QUESTIONS = ("Describe the image.", "How many objects are there?", "What is in the picture?")

MEASURE = """
import json, sys
from pathlib import Path
import torch
from vlm_dlm.model.weights import load_model

def status(field):  # not getrusage: its maximum is inherited from the parent process
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])

small, large, scheme = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
load_model(small, dtype=torch.bfloat16, quantize=scheme)  # imports belong to the baseline
baseline = status("VmRSS:")
model = load_model(large, dtype=torch.bfloat16, quantize=scheme)
print(json.dumps(status("VmHWM:") - baseline))
"""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_loaded_model_takes_what_was_foretold(
    tiny_checkpoint: Path, scheme: str, dtype: torch.dtype
) -> None:
    model = load_model(tiny_checkpoint, dtype=dtype, quantize=scheme)
    held = sum(tensor.nbytes for tensor in chain(model.parameters(), model.buffers()))
    assert held == weight_bytes(model.config, dtype.itemsize, scheme)
    assert held < weight_bytes(model.config, dtype.itemsize)
    assert model.dtype == dtype


LARGE = tiny_config(
    model_type=TEXT_TYPE,
    vision=None,
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=6,
    num_attention_heads=8,
    head_dim=128,
)
SMALL = tiny_config(model_type=TEXT_TYPE, vision=None, intermediate_size=64)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A small checkpoint and one of 180 MB."""
    folders: list[str] = []
    for config in (SMALL, LARGE):
        folders.append(str(tmp_path_factory.mktemp("checkpoint")))
        save_model(new_model(config, seed=0), Path(folders[-1]))
    return folders


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_loading_needs_the_quantized_model_and_one_layer(folders: list[str], scheme: str) -> None:
    """Peak growth of a fresh process against the bytes of the model."""
    command = [sys.executable, "-c", MEASURE, *folders, scheme]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    growth = json.loads(output.splitlines()[-1])
    whole, kept = weight_bytes(LARGE, 2), weight_bytes(LARGE, 2, scheme)
    layer = (whole - 2 * 2 * 160 * 1024) // 6
    assert growth <= kept + layer + 2 * 4 * 2**22, (growth, kept, layer)  # and pieces of floats
    assert growth < 0.9 * whole


@pytest.fixture(scope="module", params=SCHEMES)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return Runtime.load(device="cpu", dtype="float32", quantize=request.param)


def test_lossless_modes_equal_ar_in_the_same_quantized_model(
    runtime: Runtime, scene_file: Path
) -> None:
    sampling = SamplingParams(max_tokens=48)
    for question in QUESTIONS:
        prompt = runtime.prompt(question, [scene_file])
        report = runtime.compare(prompt, LOSSLESS, sampling=sampling, is_warm=False)
        assert [r.identical_to_ar for r in report.results] == [True] * len(LOSSLESS)
        fast = {r.mode: r.tokens_per_forward for r in report.results}
        if report.results[0].num_tokens > 20:
            assert fast["linear_spec"] > 2, "its drafts are worth something"


def test_every_mode_runs_and_the_report_says_how(runtime: Runtime, scene_file: Path) -> None:
    prompt = runtime.prompt(QUESTIONS[0], [scene_file])
    report = runtime.compare(prompt, sampling=SamplingParams(max_tokens=16), is_warm=False)
    assert [r.num_tokens for r in report.results] == [16] * 4
    assert report.dtype in ("float32, int8 weights", "float32, int4 weights")


def test_int8_answers_mostly_as_the_plain_model(scene_file: Path) -> None:
    results: list[ModeResult] = []
    for scheme in (None, "int8"):
        one = Runtime.load(device="cpu", dtype="float32", quantize=scheme)
        prompt = one.prompt(QUESTIONS[0], [scene_file])
        results += one.generate(prompt, "ar", sampling=SamplingParams(max_tokens=32)).results
    same = [a == b for a, b in zip(results[0].token_ids, results[1].token_ids, strict=False)]
    assert sum(same) >= 0.8 * len(same)


def adapter(folder: Path) -> Path:
    """A large random one for the embedded checkpoint."""
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    for layer in range(6):
        name = f"base_model.model.encoder.layers.{layer}.self_attn.o_proj"
        tensors[f"{name}.lora_A.weight"] = torch.randn(4, 256, generator=generator)
        tensors[f"{name}.lora_B.weight"] = torch.randn(256, 4, generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors")
    options = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["o_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(options))
    return folder


def test_a_draft_adapter_works_on_quantized_layers(scene_file: Path, tmp_path: Path) -> None:
    """It spoils the drafts here, and the answer stays that of `ar`."""
    reports: list[ModeResult] = []
    for folder in (None, adapter(tmp_path)):
        one = Runtime.load(device="cpu", dtype="float32", adapter=folder, quantize="int4")
        prompt = one.prompt(QUESTIONS[0], [scene_file])
        sampling = SamplingParams(max_tokens=24)
        report = one.compare(prompt, ["ar", "linear_spec"], sampling=sampling, is_warm=False)
        assert report.results[1].identical_to_ar
        reports.append(report.results[1])
    assert reports[1].token_ids == reports[0].token_ids
    assert reports[1].num_forwards > reports[0].num_forwards


def test_what_does_not_go_together_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match="cannot be spread over devices"):
        load_model(tiny_checkpoint, max_memory={"cpu": "1GB"}, quantize="int8")
    with pytest.raises(CheckpointError, match="a quantized model cannot be saved"):
        save_model(load_model(tiny_checkpoint, quantize="int8"), tmp_path)
    monkeypatch.setattr(placement, "_free_bytes", lambda device: 50_000)
    offloading = "quantized layers cannot be offloaded, "
    with pytest.raises(CheckpointError, match=f"{offloading}choose int4, load without --quantize"):
        load_model(tiny_checkpoint, quantize="int8")
    with pytest.raises(CheckpointError, match=f"{offloading}load without --quantize"):
        load_model(tiny_checkpoint, quantize="int4")
    assert not list(tmp_path.iterdir())


def test_an_engine_to_serve_is_quantized_too(tiny_checkpoint: Path) -> None:
    launch = Launch(str(tiny_checkpoint), "cpu", "float32", quantize="int8")
    loaded = load_engine(launch, prepare(launch), lambda progress: None)
    assert loaded.dtype == "float32, int8 weights"

    async def warmed_up() -> None:
        await warm_up(loaded, lambda progress: None)
        await loaded.engine.close()

    asyncio.run(warmed_up())


@pytest.mark.parametrize("command", [["generate"], ["compare"], ["eval", "--num", "1"], ["serve"]])
def test_without_torchao_every_command_ends_in_one_sentence(
    command: list[str], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torchao' else find(name, *a)\n"
    )
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": paths}
    out = subprocess.run(
        [sys.executable, "-m", "vlm_dlm", *command, "--quantize", "int8"],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert (out.returncode, out.stdout) == (2, "")
    assert out.stderr.splitlines() == [
        "Error: quantizing needs torchao; install it with: pip install 'vlm-dlm[quantize]'"
    ]


def test_an_unknown_scheme_is_one_sentence() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "vlm_dlm", "generate", "--quantize", "int2"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert out.returncode == 2
    assert out.stderr == "Error: unknown quantization 'int2'; choose int8 or int4\n"
