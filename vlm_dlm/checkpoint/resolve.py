"""From what the user typed, a folder or a Hub id, to a checkpoint folder. Free of torch.

Only data files are fetched: the repository's Python code is never downloaded, let alone run.
"""

from __future__ import annotations

import logging
import re
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies

from vlm_dlm.checkpoint.family import DATA_FILES, HUB_ID, pinned_revision
from vlm_dlm.checkpoint.manifest import has_weights
from vlm_dlm.checkpoint.record import NOT_ASKED, RECORD_FILE
from vlm_dlm.checkpoint.refusal import hub_refusal
from vlm_dlm.errors import CheckpointError
from vlm_dlm.sizes import size_text

if TYPE_CHECKING:
    from collections.abc import Callable

PROBE_TIMEOUT_S = 1.2
COMMIT = re.compile(r"[0-9a-f]{40}")

log = logging.getLogger(__name__)
_told: set[str] = set()  # what has been said once


class SlowHubError(Exception):
    """The Hub's machine is there, but it has not answered in time."""


def resolve_checkpoint(model: str, revision: str | None = None) -> Path:
    """Folder of a local checkpoint, or of a Hub snapshot, downloaded if need be.

    A Hub id may end in '@revision'. The revision defaults to the pinned commit of a known
    repository. A refusal takes about a second: the Hub is probed with a short timeout before the
    download, which has the usual ones and is tried also where the probe was only slow.
    """
    path = Path(model).expanduser()
    if model and path.is_dir():
        return path
    if path.is_file():
        raise CheckpointError(f"{model} is a file; pass the folder that holds it")
    found = HUB_ID.fullmatch(model)
    if found is None:
        raise CheckpointError(
            f"no folder {model!r}; pass a checkpoint folder or a Hub id 'org/name'"
        )
    repo, typed = found.groups()
    revision = revision or typed or pinned_revision(repo)
    folder = _resolve_hub(repo, revision)
    if revision is None:  # said after it: a refusal is one line
        _tell_once(
            f"{repo} has no pinned revision here, so its newest one is used; "
            f"{repo}@REVISION picks one"
        )
    return folder


def _tell_once(text: str) -> None:
    """A warning, which reaches stderr where nobody has set up logging."""
    if text not in _told:
        _told.add(text)
        log.warning("%s", text)


def _resolve_hub(repo: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import constants
    except ImportError:
        raise CheckpointError(
            f"no folder {repo}, and huggingface_hub, which would download it, is not installed"
        ) from None
    if constants.HF_HUB_OFFLINE:
        return _cached(repo, revision, "offline mode is on; unset HF_HUB_OFFLINE to download it")
    folder = _fetched(repo, revision) if COMMIT.fullmatch(revision or "") else None
    if folder is not None:  # a commit never changes
        return folder
    fault = _probe(repo, revision)
    if fault is None:
        return _download(repo, revision)
    refusal = hub_refusal(repo, revision, fault)
    if refusal is not None:
        raise CheckpointError(refusal) from None
    if isinstance(fault, SlowHubError):
        return _download_slowly(repo, revision)
    reason = (
        f"the Hub cannot be reached ({type(fault).__name__}); check the network, or fetch it "
        f"with `hf download {repo}` and pass the folder"
    )
    return _cached(repo, revision, reason)


def _download_slowly(repo: str, revision: str | None) -> Path:
    """From the cache, else from a Hub that may be slow or out of reach."""
    try:
        return _cached(repo, revision, "the Hub is slow")
    except CheckpointError:
        _tell_once(f"the Hub has not answered in {PROBE_TIMEOUT_S} s; trying to download {repo}")
    return _download(repo, revision)


def _probe(repo: str, revision: str | None) -> Exception | None:
    """What stands in the way of a download. None if the Hub knows the revision."""
    from huggingface_hub import HfApi

    is_reached = threading.Event()

    def ask() -> None:
        socket.create_connection(_hub_address(), PROBE_TIMEOUT_S).close()
        is_reached.set()
        HfApi().model_info(repo, revision=revision, timeout=PROBE_TIMEOUT_S)

    fault = _run_within(ask, PROBE_TIMEOUT_S)
    if fault is None or not is_reached.is_set() or hub_refusal(repo, revision, fault) is not None:
        return fault
    return SlowHubError()


def _hub_address() -> tuple[str, int]:
    """Host and port of the Hub, or of the proxy on the way to it."""
    from huggingface_hub import constants

    endpoint = urlsplit(constants.ENDPOINT)
    via = urlsplit(getproxies().get(endpoint.scheme, ""))
    target = via if via.hostname else endpoint
    return target.hostname or "", target.port or (80 if target.scheme == "http" else 443)


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


def _download(repo: str, revision: str | None) -> Path:
    """What `vlm-dlm fetch` would make, from a Hub that answers."""
    from vlm_dlm.checkpoint.download import carry_out, check_room, make_plan
    from vlm_dlm.checkpoint.listing import list_repository
    from vlm_dlm.checkpoint.places import CachePlace

    listing = list_repository(repo, revision)
    folder = _fetched(repo, listing.commit)
    if folder is not None:
        return folder
    terms = " and ".join(licence.name for licence in listing.licences)
    plan = make_plan(listing, CachePlace(repo, listing.commit, revision), _Told(repo))
    check_room(plan)
    if plan.missing:
        log.warning("downloading %s (%s), whose licence `vlm-dlm fetch` shows", repo, terms)
    folder, _ = carry_out(plan, NOT_ASKED, _Told(repo))
    return folder


class _Told:
    """Says how a download goes, a line per tenth."""

    def __init__(self, repo: str) -> None:
        self._repo = repo
        self._said = 0

    def __call__(self, phase: str, done: int, total: int) -> None:
        tenth = done * 10 // max(total, 1)
        if tenth > self._said:
            self._said = tenth
            size = size_text(total)
            log.warning("%s %s: %d0 %% of %s", phase.lower(), self._repo, tenth, size)


def _fetched(repo: str, commit: str | None) -> Path | None:
    """A snapshot that is known to be whole; others may lack files."""
    folder = cached_snapshot(repo, commit)
    return folder if folder is not None and (folder / RECORD_FILE).is_file() else None


def _cached(repo: str, revision: str | None, reason: str) -> Path:
    folder = cached_snapshot(repo, revision)
    if folder is None:
        raise CheckpointError(
            f"no folder {repo}, no whole snapshot of it in the Hub cache, and {reason}"
        )
    return folder


def cached_snapshot(repo: str, revision: str | None) -> Path | None:
    """The snapshot in the Hub's cache, without asking anybody; None if there is none with all
    weight files: other tools leave snapshots of a few files."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repo, revision=revision, allow_patterns=DATA_FILES, local_files_only=True
        )
    except (LocalEntryNotFoundError, OSError):
        return None
    path = Path(folder)
    is_fetched = (path / RECORD_FILE).is_file()  # whose gaps are told where it is opened
    return path if is_fetched or has_weights(path) else None
