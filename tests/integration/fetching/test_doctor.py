"""`vlm-dlm doctor` on checkpoints that are here, partly here, elsewhere and nowhere."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants, hf_hub_download
from safetensors.torch import load_file

from tests.fake_hub import FakeHub
from tests.integration.fetching.conftest import ACCEPT, Fetch, write_shards
from vlm_dlm.checkpoint.family import FULL_MODEL
from vlm_dlm.cli.main import run
from vlm_dlm.model import placement

UNREACHABLE = "http://127.0.0.1:9"


def doctor(capsys: pytest.CaptureFixture[str], model: str, code: int = 0) -> dict[str, Any]:
    """The JSON document. Other output of the command is an error, but for the reason of a code."""
    capsys.readouterr()
    assert run(["doctor", "--model", model, "--json"]) == code
    out, err = capsys.readouterr()
    assert err.count("\n") == (1 if code else 0), err
    return json.loads(out)


def test_a_checkpoint_elsewhere_is_described_and_not_downloaded(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = doctor(capsys, FULL_MODEL)
    assert hub.asked == ["config.json"], "no weights, no tokenizer"
    assert not (tmp_path / "cache").exists()
    checkpoint = facts["checkpoint"]
    assert checkpoint["state"] == "not here"
    wanted = [name for name in hub.names() if not name.endswith((".py", ".gif"))]
    assert checkpoint["missing_bytes"] == sum(hub.facts(name)["size"] for name in wanted)
    assert checkpoint["disk_free_bytes"] > 0
    assert checkpoint["licence"].startswith("NVIDIA Source Code License, https://")
    assert checkpoint["num_parameters"] < 10**6, "the Hub's config, not what is known"
    assert facts["verdict"]["flags"][:2] == ["--device", facts["device"]]
    assert run(["doctor", "--model", FULL_MODEL]) == 0
    text = capsys.readouterr().out
    assert f"to download with `vlm-dlm fetch {FULL_MODEL}`" in text
    assert f"vlm-dlm serve --model {FULL_MODEL} --device" in text


def test_a_download_that_broke_off_is_partly_here(
    fetch: Fetch, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.corrupt = {"tokenizer.json"}  # the last that is fetched
    assert fetch(*ACCEPT) == 2
    checkpoint = doctor(capsys, FULL_MODEL)["checkpoint"]
    assert checkpoint["state"] == "partly here"
    assert checkpoint["missing_bytes"] == hub.facts("tokenizer.json")["size"]


@pytest.mark.parametrize("is_sharded", [False, True], ids=["config alone", "a shard is missing"])
def test_a_cache_that_holds_some_files_is_partly_here(
    is_sharded: bool, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    """As another tool leaves it."""
    names = ["config.json"]
    if is_sharded:
        write_shards(hub.folder, load_file(hub.folder / "model.safetensors"))
        (hub.folder / "model.safetensors").unlink()
        names += ["model.safetensors.index.json", "one.safetensors"]
    for name in names:
        hf_hub_download(FULL_MODEL, name, revision=hub.commit)
    checkpoint = doctor(capsys, FULL_MODEL)["checkpoint"]
    assert checkpoint["state"] == "partly here"
    here = sum(hub.facts(name)["size"] for name in names)
    assert checkpoint["missing_bytes"] == checkpoint["file_bytes"] - here
    assert run(["doctor", "--model", FULL_MODEL]) == 0
    assert f"to download with `vlm-dlm fetch {FULL_MODEL}`" in capsys.readouterr().out


def test_a_fetched_checkpoint_is_here_without_a_network(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(*ACCEPT) == 0
    monkeypatch.setattr(constants, "ENDPOINT", UNREACHABLE)
    facts = doctor(capsys, FULL_MODEL)
    assert facts["checkpoint"]["state"] == "here"
    assert facts["checkpoint"]["licence"] == "nsclv1, accepted"
    assert facts["checkpoint"]["name"] == FULL_MODEL
    assert run(["doctor", "--model", FULL_MODEL]) == 0
    assert " on disk, context" in capsys.readouterr().out


@pytest.mark.parametrize("is_offline", [False, True], ids=["unreachable", "offline"])
def test_what_is_known_of_a_published_checkpoint_without_the_hub(
    is_offline: bool,
    hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", UNREACHABLE)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", is_offline)
    monkeypatch.setattr(placement, "_free_bytes", lambda device: 60 * 10**9)
    usage = shutil.disk_usage("/")._replace(free=60 * 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    checkpoint = doctor(capsys, FULL_MODEL)["checkpoint"]
    assert checkpoint["num_parameters"] == 8_918_034_432
    assert checkpoint["missing_bytes"] == 17_836_068_864
    assert ("offline mode is on" if is_offline else "cannot be reached") in checkpoint["note"]


def test_nothing_is_known_of_another_one(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", UNREACHABLE)
    assert run(["doctor", "--model", "some/model"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Error: the Hub at http://127.0.0.1:9 cannot be reached")
    assert err.count("\n") == 1


def test_a_checkpoint_that_does_not_fit(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(tiny_checkpoint)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(placement, "_free_bytes", lambda device: 10_000)
    facts = doctor(capsys, str(tiny_checkpoint), code=2)
    assert facts["verdict"]["fits"] is False
    assert not any(need["fits"] for need in facts["needs"])
    assert run(["doctor", "--model", str(tiny_checkpoint)]) == 2
    assert "it does not fit, the smallest form, int" in capsys.readouterr().err


def test_a_disk_too_small_for_the_download_is_no_fit(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    facts = doctor(capsys, FULL_MODEL, code=2)
    assert any(need["fits"] for need in facts["needs"]), "the memory is not what is lacking"
    assert (facts["verdict"]["fits"], facts["verdict"]["flags"]) == (False, [])
    assert run(["doctor", "--model", FULL_MODEL]) == 2
    out, err = capsys.readouterr()
    expected = r"it would run, but \d+\.\d kB are to be downloaded and the disk of the Hub's cache"
    assert re.search(rf"Error: {FULL_MODEL}: {expected} has 1\.0 kB free; make room, or", err)
    assert " as published, context" in out
    assert " on disk, context" not in out
    assert "vlm-dlm serve" not in out


def test_loading_what_does_not_fit_is_refused_and_leaves_nothing(
    tiny_checkpoint: Path,
    scene_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    usage = shutil.disk_usage(tiny_checkpoint)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(placement, "_free_bytes", lambda device: 10_000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    command = ["generate", "--model", str(tiny_checkpoint), "--image", str(scene_file)]
    assert run([*command, "--max-tokens", "4"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Error: the checkpoint does not fit: ")
    assert err.count("\n") == 1
    assert set(tmp_path.iterdir()) == before
