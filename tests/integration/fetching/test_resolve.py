"""`--model` with an id that is not here: the same download, without a question."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.fake_hub import FakeHub
from vlm_dlm.checkpoint.download import PIECE_BYTES
from vlm_dlm.checkpoint.family import FULL_MODEL
from vlm_dlm.checkpoint.record import NOT_ASKED, RECORD_FILE
from vlm_dlm.checkpoint.resolve import resolve_checkpoint
from vlm_dlm.errors import CheckpointError

WEIGHTS = "model.safetensors"


def test_it_is_downloaded_once_without_code_and_its_licence_named(
    hub: FakeHub, snapshot: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert resolve_checkpoint(FULL_MODEL) == snapshot
    assert sorted(path.name for path in snapshot.iterdir() if path.suffix == ".py") == []
    assert "NVIDIA Source Code License" in caplog.text
    assert re.search(rf"downloading {FULL_MODEL}: 100 % of \d+\.\d kB", caplog.text)
    assert json.loads((snapshot / RECORD_FILE).read_text())["licence"] == NOT_ASKED
    hub.asked.clear()
    caplog.clear()
    for model in (FULL_MODEL, f"{FULL_MODEL}@main"):
        assert resolve_checkpoint(model) == snapshot
    assert hub.asked == []
    assert not caplog.records


def test_it_is_resumed_too(
    hub: FakeHub, snapshot: Path, no_waiting: None, caplog: pytest.LogCaptureFixture
) -> None:
    size = (hub.folder / WEIGHTS).stat().st_size
    hub.cuts[WEIGHTS] = [size // 2, *[0] * 6]
    with pytest.raises(CheckpointError, match=r"broke off after .* run the same again"):
        resolve_checkpoint(FULL_MODEL)
    assert not snapshot.exists()
    assert resolve_checkpoint(FULL_MODEL) == snapshot
    assert size <= hub.sent[WEIGHTS] < size + PIECE_BYTES


def test_a_snapshot_that_lacks_files_is_completed(hub: FakeHub, snapshot: Path) -> None:
    """As another tool leaves it that was asked for one file."""
    from huggingface_hub import hf_hub_download

    hf_hub_download(FULL_MODEL, "config.json", revision=hub.commit)
    assert resolve_checkpoint(FULL_MODEL) == snapshot
    assert (snapshot / WEIGHTS).is_file()
