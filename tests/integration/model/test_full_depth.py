"""A dry run for the published VLM: its depth, names and vocabulary, through the code it will run.

34 decoder layers and 24 of the vision tower, 531 tensors, 131,073 entries; only the widths are
small. Memory is measured in a process of its own, see `tests/measure_loading.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.narrow_checkpoint import MASK_ENTRY, PUBLISHED, write_narrow_checkpoint
from vlm_dlm.checkpoint.manifest import read_manifest
from vlm_dlm.checkpoint.model_types import expected_tensors
from vlm_dlm.cli.main import run
from vlm_dlm.decoding import MODES
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.preflight import open_checkpoint
from vlm_dlm.request import SamplingParams
from vlm_dlm.runtime import Runtime

ROOT = Path(__file__).parents[3]
NUM_SHARDS = 5
SHORT_BLOCKS = {"block_length": 4}  # a row of logits takes half a megabyte
MAX_SHARE = 1.15  # of the tensors' bytes, at the peak while loading


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_narrow_checkpoint(tmp_path_factory.mktemp("single"))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_narrow_checkpoint(tmp_path_factory.mktemp("sharded"), NUM_SHARDS)


@pytest.fixture(scope="module")
def runtime(sharded: Path) -> Iterator[Runtime]:
    limits = EngineConfig(max_cache_tokens=1024, max_batched_tokens=512)
    runtime = Runtime.load(sharded, "cpu", "float32", engine_config=limits)
    yield runtime
    runtime.close()


def test_names_depth_and_vocabulary_are_the_published_ones(single: Path, sharded: Path) -> None:
    for folder in (single, sharded):
        assert read_manifest(folder).keys() == expected_tensors(PUBLISHED).keys()
    assert len(read_manifest(single)) == 531
    assert len({info.file for info in read_manifest(sharded).values()}) == NUM_SHARDS
    checkpoint = open_checkpoint(single)
    assert checkpoint.config.vocab_size == 131073
    assert checkpoint.processor.tokenizer.split_template(MASK_ENTRY) == [131072]


def test_all_modes_answer_and_the_lossless_ones_agree(runtime: Runtime) -> None:
    prompt = runtime.prompt("What is there?", [Image.new("RGB", (84, 56), "red")], max_tokens=4)
    report = runtime.compare(
        prompt, options=SHORT_BLOCKS, sampling=SamplingParams(max_tokens=4), is_warm=False
    )
    assert [result.mode for result in report.results] == list(MODES)
    answers = {result.mode: result.token_ids for result in report.results}
    assert all(answers.values())
    for mode in ("linear_spec", "quadratic_spec"):
        assert answers[mode] == answers["ar"], mode


def test_the_command_answers(
    single: Path, scene_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["generate", "--model", str(single), "--image", str(scene_file), "--json"]
    options = ["--dtype", "bfloat16", "--max-tokens", "3", "--block-length", "4"]
    assert run([*command, *options]) == 0
    report = json.loads(capsys.readouterr().out)
    (result,) = report["results"]
    assert result["num_tokens"] == 3
    assert report["dtype"] == "bfloat16"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("layout", "dtype"), [("single", "bfloat16"), ("sharded", "float32")])
def test_loading_needs_memory_for_one_copy(
    layout: str, dtype: str, tiny_checkpoint: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(layout)
    command = [sys.executable, "-m", "tests.measure_loading", str(tiny_checkpoint), str(folder)]
    out = subprocess.run(
        [*command, dtype], check=True, capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    measured = json.loads(out.stdout.splitlines()[-1])
    assert measured["tensor_bytes"] > (400e6 if dtype == "float32" else 200e6)
    assert measured["growth"] <= MAX_SHARE * measured["tensor_bytes"], measured
    assert measured["left"] > 0.95 * measured["tensor_bytes"], "the weights are really there"
