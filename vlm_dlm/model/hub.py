"""From what the user typed, a folder or a Hub id, to a checkpoint folder. Free of torch.

Only data files are fetched: the repository's Python code is never downloaded, let alone run.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from vlm_dlm.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

PINNED_REVISIONS = {
    "nvidia/Nemotron-Labs-Diffusion-VLM-8B": "c6706ba71b824c2c61a94a804da8255c1eb5d30d",
}
DATA_FILES = ["*.safetensors", "*.json", "*.jinja"]
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
PROBE_TIMEOUT_S = 1.2


def resolve_checkpoint(model: str, revision: str | None = None) -> Path:
    """Folder of a local checkpoint, or of a Hub snapshot, downloaded if need be.

    `revision` defaults to the pinned commit of a known repository. A refusal takes about a second:
    the Hub is probed with a short timeout before the download, which has the usual ones.
    """
    path = Path(model).expanduser()
    if model and path.is_dir():
        return path
    if path.is_file():
        raise CheckpointError(f"{model} is a file; pass the folder that holds it")
    if not HUB_ID.fullmatch(model):
        raise CheckpointError(
            f"no folder {model!r}; pass a checkpoint folder or a Hub id 'org/name'"
        )
    return _resolve_hub(model, revision or PINNED_REVISIONS.get(model))


def _resolve_hub(repo: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import constants
    except ImportError:
        raise CheckpointError(
            f"no folder {repo}, and huggingface_hub, which would download it, is not installed"
        ) from None
    if constants.HF_HUB_OFFLINE:
        return _cached(repo, revision, "offline mode is on; unset HF_HUB_OFFLINE to download it")
    fault = _probe(repo, revision)
    if fault is None:
        return _download(repo, revision)
    refusal = _refusal(repo, revision, fault)
    if refusal is not None:
        raise CheckpointError(refusal) from None
    reason = (
        f"the Hub cannot be reached ({type(fault).__name__}); check the network or pass a folder"
    )
    return _cached(repo, revision, reason)


def _probe(repo: str, revision: str | None) -> Exception | None:
    """What stands in the way of a download. None if the Hub knows the revision."""
    from huggingface_hub import HfApi

    def ask() -> None:
        HfApi().model_info(repo, revision=revision, timeout=PROBE_TIMEOUT_S)

    return _run_within(ask, PROBE_TIMEOUT_S)


def _run_within(call: Callable[[], None], timeout_s: float) -> Exception | None:
    """The exception of `call`, or TimeoutError. Name resolution obeys no timeout of the client."""
    outcome: list[Exception | None] = []

    def run() -> None:
        try:
            call()
        # The client library's own errors differ between versions, and all of them mean "no".
        except Exception as error:
            outcome.append(error)
        else:
            outcome.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return outcome[0] if outcome else TimeoutError(f"no answer within {timeout_s} s")


def _refusal(repo: str, revision: str | None, fault: Exception) -> str | None:
    """The Hub's own 'no', in one sentence; None when the Hub did not answer."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(fault, GatedRepoError):
        return f"{repo} is gated; accept its licence on the Hub and set HF_TOKEN"
    if isinstance(fault, RepositoryNotFoundError):
        return f"no folder and no public Hub repository {repo}; check the spelling or HF_TOKEN"
    if isinstance(fault, RevisionNotFoundError):
        return f"{repo} has no revision {revision}; leave the revision out for the default"
    if isinstance(fault, HFValidationError):
        return f"{repo} is neither a folder nor a valid Hub id"
    return None


def _download(repo: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=DATA_FILES))
    # Network, disk and protocol errors share no base class across versions of the client.
    except Exception as error:
        raise CheckpointError(
            f"downloading {repo} failed ({type(error).__name__}: {error}); "
            "run again to resume, or pass a folder"
        ) from error


def _cached(repo: str, revision: str | None, reason: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repo, revision=revision, allow_patterns=DATA_FILES, local_files_only=True
        )
    except (LocalEntryNotFoundError, OSError):
        raise CheckpointError(
            f"no folder {repo}, no such snapshot in the Hub cache, and {reason}"
        ) from None
    return Path(folder)
