"""`vlm-dlm verify` as a command: its verdicts on the embedded checkpoint, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlm_dlm.cli.main import run
from vlm_dlm.model import placement
from vlm_dlm.verify.checks import FILE_CHECKS
from vlm_dlm.verify.model_table import MODEL_CHECKS

EMBEDDED = Path(__file__).parents[3] / "assets" / "embedded"
NAMES = [check.name for check in (*FILE_CHECKS, *MODEL_CHECKS)]


def verified(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = run(["verify", "--json", *arguments])
    out = capsys.readouterr().out
    return code, {found["check"]: found for found in json.loads(out)["findings"]}


def doctored(tmp_path: Path) -> Path:
    """The embedded checkpoint with another id for the pads of images, which the engine refuses."""
    for path in EMBEDDED.iterdir():
        (tmp_path / path.name).symlink_to(path)
    tokenizer = tmp_path / "tokenizer.json"
    text = tokenizer.read_text(encoding="utf-8")
    tokenizer.unlink()
    swapped = {"<|image_pad|>": "<|image_break|>", "<|image_break|>": "<|image_pad|>"}
    raw = json.loads(text)
    for entry in raw["added_tokens"]:
        entry["content"] = swapped.get(entry["content"], entry["content"])
        raw["model"]["vocab"][entry["content"]] = entry["id"]
    tokenizer.write_text(json.dumps(raw), encoding="utf-8")
    return tmp_path


def test_the_embedded_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = verified(capsys, "--prompts", "2", "--max-tokens", "48")
    assert list(found) == NAMES
    verdicts = {name: finding["verdict"] for name, finding in found.items()}
    assert code == 0, verdicts
    sure = ("alignment", "mask_id", "linear_lossless", "quadratic_lossless", "no_thoughts")
    assert {verdicts[name] for name in (*sure, "quadratic_positions")} == {"confirmed"}
    rates = ("diffusion_rate", "linear_rate")
    assert all("no figures are published" in found[name]["evidence"] for name in rates)


def test_what_differs_is_exit_code_1_and_stops_no_other_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = verified(capsys, "--model", str(doctored(tmp_path)))
    assert code == 1
    assert list(found) == NAMES
    assert found["image_tokens"]["verdict"] == "differs"
    assert {found[check.name]["verdict"] for check in MODEL_CHECKS} == {"skipped"}
    assert "maps <|image_pad|> to 20" in found["alignment"]["evidence"]


def test_weights_that_cannot_be_used_are_exit_code_2_after_the_findings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = tmp_path / "refused"
    refused.mkdir()
    for path in EMBEDDED.iterdir():
        (refused / path.name).symlink_to(path)
    broken = refused / "preprocessor_config.json"
    broken.unlink(missing_ok=True)
    broken.write_text("{", encoding="utf-8")  # which no check of files reads
    assert run(["verify", "--json", "--model", str(refused)]) == 2
    said = capsys.readouterr()
    found = {one["check"]: one for one in json.loads(said.out)["findings"]}
    assert list(found) == NAMES
    assert {found[check.name]["verdict"] for check in MODEL_CHECKS} == {"skipped"}
    assert said.err.splitlines()[-1].startswith("Error: ")


def test_weights_that_do_not_fit_are_exit_code_2_after_the_findings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed (extra quantize)")
    monkeypatch.setattr(placement, "_free_bytes", lambda device: 1)
    assert run(["verify", "--quantize", "int4"]) == 2
    said = capsys.readouterr()
    assert "skipped        alignment: " in said.out
    assert "quantized layers cannot be offloaded" in said.err


def test_files_only_and_what_a_person_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", "--files-only"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(FILE_CHECKS)
    assert lines[0].startswith("confirmed      tensor_list: ")
    assert run(["verify", "--files-only", "--model", str(doctored(tmp_path))]) == 1
    text = capsys.readouterr().out
    assert "differs        image_tokens: start 18, pad 19, break 20, end 21" in text
    assert "to change: none: another tokenizer.json" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "nowhere"], "no folder 'nowhere'"),
        (["--prompts", "0"], "prompts is 0; it must lie in 1 to 100"),
        (["--max-tokens", "7"], "max-tokens is 7; it must lie in 8 to 4096"),
        (["--quantize", "int5"], "unknown quantization 'int5'"),
        (["--adapter", "/nowhere"], "no adapter_config.json in /nowhere"),
    ],
)
def test_bad_input_is_exit_code_2_and_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert sentence in said.err
    assert len(said.err.splitlines()) == 1
