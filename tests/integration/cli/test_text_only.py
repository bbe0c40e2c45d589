"""A text-only member of the family by the same commands; an image is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.checkpoints import write_tiny_checkpoint
from vlm_dlm.cli.main import run

REFUSAL = "Error: this checkpoint reads text only; 1 images were given"
SHORT = ("--max-tokens", "12", "--prompt", "Hello")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_checkpoint(tmp_path_factory.mktemp("text"), is_text_only=True))


@pytest.mark.parametrize("mode", ["ar", "diffusion", "linear_spec", "quadratic_spec"])
def test_generate(folder: str, mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "--model", folder, "--mode", mode, "--json", *SHORT]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["image_tokens"] == 0
    assert report["results"][0]["num_tokens"] == 12


def test_compare(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "--model", folder, "--json", "--no-warm-up", *SHORT]) == 0
    results = {r["mode"]: r for r in json.loads(capsys.readouterr().out)["results"]}
    assert results["linear_spec"]["identical_to_ar"]
    assert results["quadratic_spec"]["identical_to_ar"]


def test_doctor_and_verify(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--model", folder, "--json"]) == 0
    assert "nemotron_labs_diffusion" in capsys.readouterr().out
    few = ("--prompts", "2", "--max-tokens", "24")
    assert run(["verify", "--model", folder, "--json", *few]) in (0, 1)  # weights are random
    found = {f["check"]: f["verdict"] for f in json.loads(capsys.readouterr().out)["findings"]}
    images = ("image_tokens", "image_constant", "image_marker")
    assert {found[name] for name in images} == {"skipped"}
    sure = ("tensor_list", "linear_lossless", "quadratic_lossless", "quadratic_positions")
    assert {found[name] for name in sure} == {"confirmed"}


@pytest.mark.parametrize("command", ["generate", "compare", "eval"])
def test_an_image_is_refused(
    folder: str, command: str, scene_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ("--num", "1") if command == "eval" else ("--image", str(scene_file))
    assert run([command, "--model", folder, *own]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines()) == ("", [REFUSAL])
