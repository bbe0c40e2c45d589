"""What was changed after it was fetched is noticed at load; code of a checkpoint never runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.fake_hub import FakeHub
from tests.integration.fetching.conftest import ACCEPT, COMMIT, Fetch, write_shards
from vlm_dlm.checkpoint.family import FULL_MODEL
from vlm_dlm.checkpoint.manifest import read_manifest
from vlm_dlm.checkpoint.record import RECORD_FILE
from vlm_dlm.cli.main import run

ASK = ["--prompt", "What is there?", "--max-tokens", "4"]


@pytest.fixture
def fetched(fetch: Fetch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder that `vlm-dlm fetch --to` made."""
    folder = tmp_path / "fetched"
    assert fetch("--to", str(folder), *ACCEPT) == 0
    capsys.readouterr()
    return folder


def edited(folder: Path) -> None:
    settings = folder / "preprocessor_config.json"
    settings.write_text(settings.read_text().replace("0.5", "0.4"))


def truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "same size": (edited, "preprocessor_config.json was changed in"),
    "weights cut short": (truncated, "model.safetensors was changed in"),
    "gone": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is gone from"),
}
ADDED = {"generation_config.json": b"{}", "extra.jinja": b"", "more.safetensors": b"\0" * 8}


@pytest.mark.parametrize("case", CHANGES)
def test_a_change_is_refused_with_both_remedies(
    case: str, fetched: Path, fetch: Fetch, scene_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, expected = CHANGES[case]
    change(fetched)
    command = ["generate", "--model", str(fetched), "--image", str(scene_file), *ASK]
    assert run(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"Error: {expected} {fetched} after it was fetched")
    assert err.count("\n") == 1
    remedy = err.partition("`vlm-dlm ")[2].partition("`")[0]
    assert remedy == f"fetch {FULL_MODEL}@{COMMIT} --to {fetched}"
    assert "restores what it was, deleting fetched.json there accepts the change" in err
    if case != "weights cut short":  # which no deletion makes whole
        (fetched / RECORD_FILE).unlink()
        assert run(command) == (2 if case == "gone" else 0)
        return
    assert run(remedy.split()) == 0, "it does what it says"
    assert run(command) == 0


@pytest.mark.parametrize("name", ADDED)
def test_an_added_file_is_refused_until_it_is_deleted(
    name: str, fetched: Path, fetch: Fetch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fetching cannot help: the file may be somebody's work."""
    (fetched / name).write_bytes(ADDED[name])
    expected = (
        f"Error: {name} was added to {fetched} after it was fetched; deleting {name} restores"
    )
    assert run(["doctor", "--model", str(fetched)]) == 2
    assert capsys.readouterr().err.startswith(expected)
    assert fetch("--to", str(fetched), *ACCEPT) == 2
    assert expected in capsys.readouterr().err
    (fetched / name).unlink()
    assert run(["doctor", "--model", str(fetched)]) == 0


def test_weights_beside_recorded_shards_do_not_replace_them(
    hub: FakeHub, fetch: Fetch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    single = hub.folder / "model.safetensors"
    content, tensors = single.read_bytes(), load_file(single)
    single.unlink()
    write_shards(hub.folder, tensors)
    folder = tmp_path / "sharded"
    assert fetch("--to", str(folder), *ACCEPT) == 0
    (folder / "model.safetensors").write_bytes(content)
    assert run(["doctor", "--model", str(folder)]) == 2
    assert "model.safetensors was added to" in capsys.readouterr().err


def test_the_remedy_for_the_cache_names_no_folder(
    fetch: Fetch, snapshot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(*ACCEPT) == 0
    (snapshot / "tokenizer.json").unlink()
    assert run(["doctor", "--model", str(snapshot)]) == 2
    assert f"`vlm-dlm fetch {FULL_MODEL}@{COMMIT}` restores" in capsys.readouterr().err


def test_a_second_fetch_restores_what_was_changed(fetched: Path, fetch: Fetch) -> None:
    edited(fetched)
    assert fetch("--to", str(fetched), *ACCEPT) == 0
    assert run(["doctor", "--model", str(fetched)]) == 0


def test_another_revision_replaces_all_of_the_earlier_one(
    fetched: Path, fetch: Fetch, hub: FakeHub
) -> None:
    """From one file to two shards: the old file would be loaded in their place."""
    (fetched / "mine.txt").write_text("kept")
    outside = fetched.parent / "outside.json"
    outside.write_text("kept")
    record = json.loads((fetched / RECORD_FILE).read_text())
    record["files"]["../outside.json"] = {"bytes": 4, "sha256": ""}
    (fetched / RECORD_FILE).write_text(json.dumps(record))
    tensors = load_file(hub.folder / "model.safetensors")
    (hub.folder / "model.safetensors").unlink()
    (hub.folder / "LICENSE").unlink()
    write_shards(hub.folder, tensors)
    hub.commit = "b" * 40
    assert fetch(f"{FULL_MODEL}@{hub.commit}", "--to", str(fetched), *ACCEPT) == 0
    left = {path.name for path in fetched.iterdir()} - {RECORD_FILE, "mine.txt"}
    assert left == {name for name in hub.names() if "/" not in name and not name.endswith(".py")}
    manifest = read_manifest(fetched)
    assert {info.file.name for info in manifest.values()} == {"one.safetensors", "two.safetensors"}
    assert outside.is_file()
    assert run(["doctor", "--model", str(fetched)]) == 0


def test_a_damaged_record_is_one_sentence(
    fetched: Path, fetch: Fetch, capsys: pytest.CaptureFixture[str]
) -> None:
    (fetched / RECORD_FILE).write_text('{"files": 3}')
    assert run(["doctor", "--model", str(fetched)]) == 2
    assert "fetched.json is damaged" in capsys.readouterr().err
    assert fetch("--to", str(fetched), *ACCEPT) == 0


def test_python_files_of_a_checkpoint_are_never_executed(
    tiny_checkpoint: Path, tmp_path: Path, scene_file: Path
) -> None:
    folder = tmp_path / "with-code"
    shutil.copytree(tiny_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    module = "modeling_nemotron_labs_diffusion_vlm"
    config["auto_map"] = {"AutoConfig": f"{module}.Config", "AutoModel": f"{module}.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    trap = f"import pathlib; pathlib.Path({str(tmp_path / 'executed')!r}).touch()\n"
    for name in (f"{module}.py", "image_processing.py", "__init__.py", "sitecustomize.py"):
        (folder / name).write_text(trap)
    assert run(["generate", "--model", str(folder), "--image", str(scene_file), *ASK]) == 0
    assert not (tmp_path / "executed").exists()
