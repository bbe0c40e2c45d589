"""A checkpoint is found, or refused at once with a remedy. No test reaches the network."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError

from vlm_dlm.checkpoint import resolve as hub
from vlm_dlm.checkpoint.resolve import resolve_checkpoint
from vlm_dlm.errors import CheckpointError

VLM_8B = "nvidia/Nemotron-Labs-Diffusion-VLM-8B"
REVISION = "c6706ba71b824c2c61a94a804da8255c1eb5d30d"


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """What was asked of the cache and of the Hub, both replaced; the Hub gives what it is asked."""
    calls: list[dict[str, Any]] = []
    (tmp_path / "model.safetensors").touch()
    monkeypatch.setattr(hub, "_told", set())

    def cached(repo: str, **options: Any) -> str:
        calls.append({"repo": repo, **options})
        return str(tmp_path)

    def download(repo: str, revision: str | None) -> Path:
        calls.append({"repo": repo, "revision": revision, "local_files_only": False})
        return tmp_path

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    monkeypatch.setattr(hub, "_download", download)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_probe", lambda repo, revision: None)
    return calls


def refusal(model: str, revision: str | None = None) -> str:
    start = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        resolve_checkpoint(model, revision)
    assert time.monotonic() - start < 2.0
    return str(caught.value)


def test_existing_folder_is_itself(tmp_path: Path, downloads: list[dict[str, Any]]) -> None:
    assert resolve_checkpoint(str(tmp_path)) == tmp_path
    assert downloads == []


@pytest.mark.parametrize(
    ("revision", "resolved"), [(None, REVISION), ("main", "main")], ids=["pinned", "given"]
)
def test_hub_id_is_downloaded_at_its_revision(
    tmp_path: Path, downloads: list[dict[str, Any]], revision: str | None, resolved: str
) -> None:
    assert resolve_checkpoint(VLM_8B, revision) == tmp_path
    assert downloads[-1] == {"repo": VLM_8B, "revision": resolved, "local_files_only": False}


def test_a_fetched_commit_is_taken_without_asking_anybody(
    tmp_path: Path, downloads: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fetched.json").touch()
    monkeypatch.setattr(hub, "_probe", lambda *_: pytest.fail("asked the network"))
    assert resolve_checkpoint(VLM_8B) == tmp_path
    (call,) = downloads
    assert call["local_files_only"] is True
    assert call["revision"] == REVISION
    assert set(call["allow_patterns"]) == {"*.safetensors", "*.json", "*.jinja"}


def test_a_revision_after_the_id(downloads: list[dict[str, Any]]) -> None:
    resolve_checkpoint(f"{VLM_8B}@refs/pr/3")
    assert (downloads[0]["repo"], downloads[0]["revision"]) == (VLM_8B, "refs/pr/3")


def test_an_unpinned_id_says_so_once(
    downloads: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    for model in (VLM_8B, "some/model@v1", "some/model", "some/model"):
        resolve_checkpoint(model)
    (record,) = caplog.records
    assert "some/model has no pinned revision" in record.message
    assert downloads[-1]["revision"] is None


def test_a_slow_hub_is_asked_for_the_download(
    downloads: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fake(repo: str, local_files_only: bool = False, **options: Any) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("not there")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
    monkeypatch.setattr(hub, "_probe", lambda *_: hub.SlowHubError())
    assert resolve_checkpoint(VLM_8B) == tmp_path
    assert "has not answered in 1.2 s; trying to download" in caplog.text


def test_a_slow_hub_is_not_asked_for_what_is_cached(
    downloads: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_probe", lambda *_: hub.SlowHubError())
    resolve_checkpoint(VLM_8B)
    assert all(call["local_files_only"] for call in downloads)


def test_offline_mode_asks_the_cache_only(
    downloads: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "_probe", lambda *_: pytest.fail("asked the network"))
    resolve_checkpoint(VLM_8B)
    assert downloads[0]["local_files_only"] is True


def test_unreachable_hub_falls_back_to_the_cache(
    downloads: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_probe", lambda *_: ConnectionError())
    resolve_checkpoint(VLM_8B)
    assert downloads[0]["local_files_only"] is True


def test_offline_and_not_cached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    message = refusal(VLM_8B)
    assert VLM_8B in message
    assert "unset HF_HUB_OFFLINE" in message
    refusal("some/model")
    assert not caplog.records, "the refusal is all that is said"


def test_network_refused_and_not_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "_probe", lambda *_: ConnectionRefusedError())
    message = refusal(VLM_8B)
    assert "cannot be reached (ConnectionRefusedError)" in message
    assert "pass the folder" in message


@pytest.fixture
def silent_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Accepts connections and never answers."""
    monkeypatch.setattr(hub, "PROBE_TIMEOUT_S", 0.3)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_hub_that_is_there_and_silent_is_slow(
    silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent_port}")
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: time.sleep(1))
    assert isinstance(hub._probe("a/b", None), hub.SlowHubError)


def test_a_hub_that_is_not_there_is_not_slow(
    silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free_port = server.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free_port}")
    assert isinstance(hub._probe("a/b", None), ConnectionRefusedError)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{silent_port}")
    assert hub._hub_address() == ("127.0.0.1", silent_port)


def test_hanging_call_is_abandoned() -> None:
    start = time.monotonic()
    fault = hub._run_within(lambda: time.sleep(5), 0.1)
    assert isinstance(fault, TimeoutError)
    assert time.monotonic() - start < 1.0


@pytest.mark.parametrize(
    "model", ["./nowhere", "/no/such/folder", "nowhere", "a/b/c", "", "../x", "a/b@", "a/b@v@w"]
)
def test_neither_folder_nor_hub_id(
    model: str, downloads: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # with nothing beside it
    assert "pass a checkpoint folder or a Hub id" in refusal(model)
    assert downloads == []


def test_file_instead_of_folder(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.touch()
    assert "pass the folder" in refusal(str(path))
