"""A fake Hub that holds the tiny checkpoint, with Python files and a licence beside it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import close_session, constants
from safetensors.torch import save_file

from tests.fake_hub import FakeHub, serving
from vlm_dlm.checkpoint.family import FULL_MODEL, MEMBERS
from vlm_dlm.cli.main import run

COMMIT = MEMBERS[FULL_MODEL].revision or ""
ACCEPT = ["--accept-license", "nsclv1"]
Fetch = Callable[..., int]


@pytest.fixture
def hub(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeHub]:
    """Serves the tiny checkpoint as the published one; the client is led to it."""
    folder = tmp_path / "published"
    shutil.copytree(tiny_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling_evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_evil.py").write_text("raise SystemExit('executed')\n")
    (folder / "LICENSE").write_text("You may look, you may not touch.\n")
    (folder / "assets").mkdir()
    (folder / "assets" / "demo.gif").write_bytes(b"GIF89a")
    card = {"license": "other", "license_name": "NVIDIA Source Code License"}
    with serving(FakeHub(FULL_MODEL, COMMIT, folder, card)) as served:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        template = served.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", served.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        close_session()
        yield served
        close_session()


@pytest.fixture
def fetch(hub: FakeHub) -> Fetch:
    """`vlm-dlm fetch` with these arguments; its exit code."""
    return lambda *arguments: run(["fetch", *arguments])


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """Where the cache puts the checkpoint."""
    name = "models--" + FULL_MODEL.replace("/", "--")
    return tmp_path / "cache" / name / "snapshots" / COMMIT


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits a second before each retry."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def write_shards(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """The same weights as two files and an index."""
    names = sorted(tensors)
    half = len(names) // 2
    shards = {"one.safetensors": names[:half], "two.safetensors": names[half:]}
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    weight_map = {name: file for file, held in shards.items() for name in held}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
