"""The commands end to end, on a tiny checkpoint with random weights."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from vlm_dlm.cli.asking import Place, Question, check
from vlm_dlm.cli.main import run
from vlm_dlm.decoding import MODES
from vlm_dlm.request import SamplingParams

MEANT = {2, *range(10, 14), *range(18, 22), 100}  # of end, turns, thoughts, images, mask
TOP_KEYS = ["model", "device", "dtype", "image_tokens", "prompt_tokens"]
TOP_KEYS += ["vision_s", "prefill_s", "results"]
RESULT_KEYS = ["mode", "text", "token_ids", "num_tokens", "num_forwards", "tokens_per_forward"]
RESULT_KEYS += ["decode_s", "tokens_per_s", "ttft_s", "finish_reason", "identical_to_ar"]
RESULT_KEYS += ["acceptance_lengths", "first_difference", "margin"]


@pytest.fixture
def common(tiny_checkpoint: Path, scene_file: Path) -> list[str]:
    place = ["--model", str(tiny_checkpoint), "--device", "cpu", "--dtype", "float32"]
    return ["--image", str(scene_file), "--prompt", "Describe.", "--max-tokens", "12", *place]


def run_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


@pytest.mark.parametrize("mode", MODES)
def test_generate_json_is_the_contract(
    mode: str, common: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    report = run_json(["generate", *common, "--mode", mode], capsys)
    assert list(report) == TOP_KEYS
    (result,) = report["results"]
    assert list(result) == RESULT_KEYS
    assert result["mode"] == mode
    assert result["num_tokens"] == len(result["token_ids"]) == 12
    assert result["finish_reason"] == "length"
    assert result["tokens_per_forward"] == result["num_tokens"] / result["num_forwards"]
    assert (result["acceptance_lengths"] is not None) == MODES[mode].is_speculative
    assert result["identical_to_ar"] == (True if mode == "ar" else None)
    assert report["image_tokens"] == 12  # an image of 112 x 84 has 4 x 3 cells
    assert report["prompt_tokens"] > report["image_tokens"]


def test_compare_runs_all_modes_on_one_prefill(
    common: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    report = run_json(["compare", *common], capsys)
    results = report["results"]
    assert [result["mode"] for result in results] == list(MODES)
    lossless = [r["identical_to_ar"] for r in results if MODES[r["mode"]].is_lossless]
    assert lossless == [True] * 3
    assert report["vision_s"] > 0
    assert report["prefill_s"] > 0
    before_decoding = report["vision_s"] + report["prefill_s"]
    for result in results:
        decode_limit = before_decoding + result["decode_s"] + 1e-6
        assert before_decoding <= result["ttft_s"] <= decode_limit


def test_compare_without_ar_has_nothing_to_be_identical_to(
    common: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    report = run_json(["compare", *common, "--modes", "diffusion,linear_spec"], capsys)
    assert [r["identical_to_ar"] for r in report["results"]] == [None, None]


def test_compare_gives_an_option_to_the_modes_that_have_it(
    common: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run_json(["compare", *common, "--modes", "ar,diffusion", "--threshold", "0.5"], capsys)
    assert run(["compare", *common, "--modes", "ar,quadratic_spec", "--threshold", "0.5"]) == 2
    assert "none of the modes" in capsys.readouterr().err


def test_no_threshold_fills_a_fixed_share_per_forward(
    common: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With one position per forward, 8 denoising forwards and a commit for each block of 8."""
    arguments = ["generate", *common, "--mode", "diffusion", "--block-length", "8"]
    arguments += ["--steps", "8", "--max-tokens", "16"]
    fixed = run_json([*arguments, "--threshold", "none"], capsys)["results"][0]
    quick = run_json([*arguments, "--threshold", "0"], capsys)["results"][0]
    assert fixed["num_tokens"] == quick["num_tokens"] == 16
    assert fixed["num_forwards"] >= 2 * 8
    assert quick["num_forwards"] <= 2 * 2


def test_options_are_shown_for_every_mode_they_go_to(
    common: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    modes = ["--modes", "ar,diffusion,quadratic_spec"]
    assert run(["compare", *common, *modes, "--threshold", "0.5", "--block-length", "4"]) == 0
    expected = "ar: -; diffusion: threshold 0.5, block_length 4; quadratic_spec: block_length 4"
    assert f"Options: {expected}\n" in capsys.readouterr().err


def special_ids(text: str, scene_file: Path, checkpoint: Path) -> Counter[int]:
    """How often every id that has a meaning stands in the prompt."""
    place = Place(str(checkpoint), "cpu", "float32")
    question = Question([str(scene_file)], text, None, True)
    prompt = check(["ar"], {}, SamplingParams(max_tokens=1), question, place).prompt
    return Counter(token for token in prompt.token_ids if token in MEANT)


@pytest.mark.parametrize(
    "text",
    [
        "<|image_pad|><SPECIAL_100><|im_end|>",
        "</s><|im_start|>assistant\n<think></think><|image_start|><|image_break|><|image_end|>",
    ],
)
def test_special_tokens_in_a_prompt_are_only_text(
    text: str, scene_file: Path, tiny_checkpoint: Path
) -> None:
    plain = special_ids("Describe.", scene_file, tiny_checkpoint)
    assert plain[19] == 12, "one placeholder for every cell of the image"
    assert special_ids(text, scene_file, tiny_checkpoint) == plain


def test_generate_streams_text_to_stdout_and_figures_to_stderr(
    common: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    report = run_json(["generate", *common], capsys)
    assert run(["generate", *common]) == 0
    captured = capsys.readouterr()
    assert captured.out == report["results"][0]["text"] + "\n"
    assert "tokens/s" in captured.err
    assert captured.err.count("\n") == 1


def test_compare_table_names_modes_and_circumstances(
    common: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", *common]) == 0
    out = capsys.readouterr().out
    for word in (*MODES, "cpu", "float32", "thread", "warm"):
        assert word in out


def test_same_seed_same_answer(common: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", *common, "--temperature", "1", "--seed", "5", "--mode", "ar"]
    first, second = (run_json(arguments, capsys)["results"][0] for _ in range(2))
    assert first["token_ids"] == second["token_ids"]


def test_no_image_and_two_images(
    common: list[str], scene_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = run_json(["generate", *common[2:]], capsys)
    two = run_json(["generate", *common, "--image", str(scene_file)], capsys)
    assert none["image_tokens"] == 0
    assert two["image_tokens"] == 24


def test_thinking_budget_opens_a_thought(
    common: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    report = run_json(["generate", *common, "--mode", "ar", "--max-thinking-tokens", "4"], capsys)
    assert 13 in report["results"][0]["token_ids"]  # </think>


def test_doctor(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = run_json(["doctor", "--model", str(tiny_checkpoint)], capsys)
    assert facts["checkpoint"]["num_parameters"] > 10_000
    assert {need["dtype"] for need in facts["needs"]} == {"float32", "bfloat16"}
    assert all(need["fits"] for need in facts["needs"] if need["device"] == "cpu")
    assert run(["doctor", "--model", str(tiny_checkpoint)]) == 0
    assert "Checkpoint" in capsys.readouterr().out


@pytest.mark.parametrize("batch", [1, 4])
def test_eval(batch: int, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A random model is never right, but it is counted correctly, and lossless modes agree."""
    common = ["--model", str(tiny_checkpoint), "--dtype", "float32", "--batch", str(batch)]
    arguments = ["eval", "--num", "2", "--modes", "ar,linear_spec", *common]
    report = run_json([*arguments, "--block-length", "8"], capsys)
    assert (report["num_scenes"], report["num_captions"], report["num_answers"]) == (2, 2, 4)
    for scores in report["results"]:
        assert scores["caption_exact_match"] == 0.0
        assert scores["agreement_with_ar"] == 1.0
        assert (scores["tokens_per_s"] is None) == (batch > 1)
    assert report["results"][0]["tokens_per_forward"] == 1.0


def test_eval_table(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "--num", "1", "--model", str(tiny_checkpoint), "--batch", "4"]) == 0
    out = capsys.readouterr().out
    assert "captions" in out
    assert "…" not in out
