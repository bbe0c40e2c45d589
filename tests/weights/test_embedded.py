"""The shipped checkpoint does what its card says, on a sample small enough for every run."""

from __future__ import annotations

from pathlib import Path

from vlm_dlm.decoding import MODES
from vlm_dlm.evaluation.scenes import evaluate
from vlm_dlm.runtime import Runtime

EMBEDDED = Path(__file__).parents[2] / "assets" / "embedded"
NUM_SCENES = 20
LEAST_TOKENS_PER_FORWARD = {"diffusion": 5.0, "linear_spec": 5.0, "quadratic_spec": 6.0}


def test_quality_speed_and_losslessness() -> None:
    runtime = Runtime.load(device="cpu", dtype="float32")
    report = evaluate(runtime, NUM_SCENES, batch=8)
    scores = {result.mode: result for result in report.results}
    # Guards what the model card states for 500 scenes (0.916, 0.974, 0.975), less the noise of a
    # small sample.
    assert scores["ar"].caption_exact_match >= 0.8
    assert scores["ar"].object_f1 >= 0.93
    assert scores["ar"].answer_accuracy >= 0.9
    diffusion = scores["diffusion"].caption_exact_match
    assert diffusion >= scores["ar"].caption_exact_match - 0.16
    for name, mode in MODES.items():
        if mode.is_lossless:
            assert scores[name].agreement_with_ar == 1.0
        if name != "ar":
            assert scores[name].caption_tokens_per_forward >= LEAST_TOKENS_PER_FORWARD[name]


def test_files_are_small_and_final() -> None:
    assert (EMBEDDED / "model.safetensors").stat().st_size <= 20_000_000
    assert not (EMBEDDED / "state").exists()
