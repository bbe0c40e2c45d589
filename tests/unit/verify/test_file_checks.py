"""Checks of files: confirmed on the embedded checkpoint, and different on a doctored copy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from vlm_dlm.checkpoint.record import Record, file_sha256, write_record
from vlm_dlm.errors import CheckpointError
from vlm_dlm.verify.checks import FILE_CHECKS
from vlm_dlm.verify.files import CheckpointFiles
from vlm_dlm.verify.finding import Finding
from vlm_dlm.verify.running import run_checks

EMBEDDED = Path(__file__).parents[3] / "assets" / "embedded"
Doctor = Callable[[Path], object]
# One needs the full vocabulary (tests/unit/processor/test_tekken.py), one a fetched folder.
NO_VERDICT_HERE = {"vocabulary", "recorded_files"}


def findings(folder: Path, adapter: Path | None = None) -> dict[str, Finding]:
    files = CheckpointFiles.open(folder, adapter)
    return {finding.check: finding for finding in run_checks(FILE_CHECKS, files)}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Linked files; a doctor writes a new one in the place of a link."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in EMBEDDED.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def rewrite(folder: Path, name: str, edit: Callable[[Any], object]) -> None:
    path = folder / name
    raw = json.loads(path.read_text(encoding="utf-8"))
    edit(raw)
    path.unlink()
    path.write_text(json.dumps(raw), encoding="utf-8")


def config(**changes: Any) -> Doctor:
    return lambda folder: rewrite(folder, "config.json", lambda raw: raw.update(changes))


def side(name: str, **changes: Any) -> Doctor:
    return lambda folder: rewrite(folder, name, lambda raw: raw.update(changes))


def swap(first: int, second: int) -> Doctor:
    """Exchange the ids of two added tokens."""

    def edit(raw: Any) -> None:
        ids = {first: second, second: first}
        vocabulary = raw["model"]["vocab"]
        for entry in raw["added_tokens"]:
            entry["id"] = ids.get(entry["id"], entry["id"])
            vocabulary[entry["content"]] = entry["id"]

    return lambda folder: rewrite(folder, "tokenizer.json", edit)


def flag_special(token_id: int) -> Doctor:
    def edit(raw: Any) -> None:
        for entry in raw["added_tokens"]:
            entry["special"] = entry["special"] or entry["id"] == token_id

    return lambda folder: rewrite(folder, "tokenizer.json", edit)


def template(old: str, new: str) -> Doctor:
    def write(folder: Path) -> None:
        path = folder / "chat_template.jinja"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.unlink()
        path.write_text(text.replace(old, new), encoding="utf-8")

    return write


def tensors(edit: Callable[[dict[str, Any]], object]) -> Doctor:
    """Stored as float32, as numpy has no bfloat16."""

    def write(folder: Path) -> None:
        path = folder / "model.safetensors"
        with safe_open(path, framework="pt") as stored:
            found = {name: stored.get_tensor(name).float().numpy() for name in stored.keys()}  # noqa: SIM118
        edit(found)
        path.unlink()
        save_file(found, path)

    return write


def bring_adapter(folder: Path) -> None:
    own = folder / "linear_spec_lora"
    own.mkdir()
    write_adapter(own)


def write_adapter(folder: Path, rank: int = 4) -> Path:
    import numpy as np

    stored: dict[str, Any] = {}
    for layer in range(6):
        name = f"base_model.model.encoder.layers.{layer}.self_attn.o_proj"
        stored[f"{name}.lora_A.weight"] = np.zeros((rank, 256), np.float32)
        stored[f"{name}.lora_B.weight"] = np.zeros((256, rank), np.float32)
    save_file(stored, folder / "adapter_model.safetensors")
    options = {"peft_type": "LORA", "r": 4, "lora_alpha": 16, "target_modules": ["o_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(options))
    return folder


def fetched(folder: Path, num_more: int = 0) -> None:
    """As `vlm-dlm fetch` leaves it, config.json having lost `num_more` bytes since."""
    files = {path.name: (path.stat().st_size, file_sha256(path)) for path in folder.iterdir()}
    num_bytes, sha256 = files["config.json"]
    files["config.json"] = (num_bytes + num_more, sha256)
    write_record(folder, Record("some/model", "c" * 40, "a licence", files))


SYSTEM = "'<|im_start|>system\\n' + system + '<|im_end|>\\n'"
DOCTORED: dict[str, tuple[str, Doctor, str]] = {
    "a tensor is missing": (
        "tensor_list",
        tensors(lambda found: found.pop("encoder.norm.weight")),
        "encoder.norm.weight is missing",
    ),
    "a stray tensor": (
        "stray_tensors",
        tensors(lambda found: found.update({"encoder.extra": found["encoder.norm.weight"]})),
        "encoder.extra",
    ),
    "a file that has changed": (
        "recorded_files",
        lambda folder: fetched(folder, num_more=1),
        "config.json was changed in",
    ),
    "another dtype": ("storage_dtype", tensors(lambda found: None), "stored as F32"),
    "an adapter is there": ("draft_adapter", bring_adapter, "12 tensors of rank 4, scale 4"),
    "chat markers": ("chat_markers", swap(10, 14), "<|im_start|> 14"),
    "think markers": ("think_markers", swap(12, 14), "<think> 14"),
    "special think markers": ("think_markers", flag_special(13), "flagged special: </think>"),
    "end of text": ("end_of_text", swap(2, 5), "</s> 5"),
    "image tokens": ("image_tokens", swap(19, 17), "<|image_pad|> 17"),
    "another image constant": ("image_constant", config(image_token_index=10), "10"),
    "another mask": ("mask_token", config(mask_token_id=99), "mask_token_id 99, <SPECIAL_100> 100"),
    "another end": ("end_token", config(eos_token_id=2), "config.json 2"),
    "another generation end": (
        "end_token",
        side("generation_config.json", eos_token_id=[2]),
        "generation_config.json [2]",
    ),
    "a pad that is a pad of images": ("pad_token", config(pad_token_id=19), "id 19"),
    "no system turn": ("system_turn", template("{{- " + SYSTEM + " -}}", ""), "no system turn"),
    "a default system text": (
        "system_turn",
        template("set system = ''", "set system = 'You are helpful.'"),
        "You are helpful.",
    ),
    "a bos": ("no_bos", template("{{- '<|im_start|>system", "{{- '<s><|im_start|>system"), "<s>"),
    "another frame": ("user_turn", template("<|im_start|>user\\n", "[INST]"), "[INST]"),
    "an open thought": ("closed_thought", template("'<think></think>' -}}", "'' -}}"), "off ends"),
    "an image marker": ("image_marker", template("<|image_start|>", "[IMG]"), "[IMG]"),
}


def test_the_embedded_checkpoint_is_as_assumed() -> None:
    found = findings(EMBEDDED)
    assert {name for name, finding in found.items() if finding.verdict == "differs"} == set()
    skipped = {name for name, finding in found.items() if finding.verdict == "skipped"}
    assert skipped == NO_VERDICT_HERE
    assert all(finding.evidence and finding.setting for finding in found.values())


def test_a_fetched_checkpoint_that_is_as_it_was(copy: Path) -> None:
    fetched(copy)
    finding = findings(copy)["recorded_files"]
    assert finding.verdict == "confirmed"
    assert f"some/model@{'c' * 40}" in finding.evidence


@pytest.mark.parametrize("case", DOCTORED)
def test_what_differs_is_seen(case: str, copy: Path) -> None:
    name, doctor, evidence = DOCTORED[case]
    doctor(copy)
    finding = findings(copy)[name]
    assert finding.verdict == "differs"
    assert evidence in finding.evidence


def test_every_check_is_seen_to_give_both_verdicts() -> None:
    doctored = {name for name, _, _ in DOCTORED.values()}
    unclear_instead = {"template_file"}
    assert doctored | unclear_instead | NO_VERDICT_HERE == {check.name for check in FILE_CHECKS}


def test_a_checkpoint_without_template_or_pad_token_cannot_tell(copy: Path) -> None:
    (copy / "chat_template.jinja").unlink()
    (copy / "tokenizer_config.json").unlink()
    found = findings(copy)
    assert found["template_file"].verdict == found["pad_token"].verdict == "could not tell"
    assert found["system_turn"].verdict == "confirmed"  # of the built-in one


def test_leftovers_of_exporters_are_no_difference(copy: Path) -> None:
    def add(found: dict[str, Any]) -> None:
        found["encoder.layers.0.self_attn.k_scale"] = found["encoder.norm.weight"]

    tensors(add)(copy)
    finding = findings(copy)["stray_tensors"]
    assert (finding.verdict, finding.evidence) == ("confirmed", "1 of known exporters, ignored")


def test_an_adapter_that_is_given_must_fit(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    for folder, rank in ((good, 4), (bad, 5)):
        folder.mkdir()
        write_adapter(folder, rank)
    assert findings(EMBEDDED, good)["draft_adapter"].verdict == "confirmed"
    finding = findings(EMBEDDED, bad)["draft_adapter"]
    assert finding.verdict == "differs"
    assert "of the wrong shape" in finding.evidence


def test_an_image_constant_of_19_is_no_difference(copy: Path) -> None:
    config(image_token_id=19)(copy)
    assert findings(copy)["image_constant"].verdict == "confirmed"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_what_cannot_be_read_is_an_error(name: str, copy: Path) -> None:
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match="in "):
        CheckpointFiles.open(copy)
