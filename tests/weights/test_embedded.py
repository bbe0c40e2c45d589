"""The shipped checkpoint does what its card says, on a sample small enough for every run."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlm_dlm.decoding import MODES
from vlm_dlm.evaluation.scenes import evaluate
from vlm_dlm.runtime import Runtime

EMBEDDED = Path(__file__).parents[2] / "assets" / "embedded"
NUM_SCENES = 20

pytestmark = pytest.mark.skipif(not EMBEDDED.exists(), reason="the checkpoint is not trained yet")


def test_quality_speed_and_losslessness() -> None:
    runtime = Runtime.load(device="cpu", dtype="float32")
    report = evaluate(runtime, NUM_SCENES, batch=8)
    scores = {result.mode: result for result in report.results}
    assert scores["ar"].caption_exact_match >= 0.7  # the bar over 500 scenes is 0.85
    assert scores["ar"].object_f1 >= 0.95
    assert scores["ar"].answer_accuracy >= 0.75
    for name, mode in MODES.items():
        if mode.is_lossless:
            assert scores[name].agreement_with_ar == 1.0
        if name != "ar":
            assert scores[name].caption_tokens_per_forward >= 4.0


def test_files_are_small_and_final() -> None:
    assert (EMBEDDED / "model.safetensors").stat().st_size <= 20_000_000
    assert not (EMBEDDED / "state").exists()
