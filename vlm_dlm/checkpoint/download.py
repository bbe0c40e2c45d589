"""From the Hub to the disk: one file at a time, resumed where it broke off, checked, then placed.

Nothing appears under its own name before every byte of every file is here and has the checksum
that the Hub announces. The Hub's client keeps no part of a file from one run to the next, so the
parts are kept here; the requests, the retries and the layout of the cache are the client's.
"""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.checkpoint.json_file import parse_object
from vlm_dlm.checkpoint.listing import CONFIG, Listing, RemoteFile
from vlm_dlm.checkpoint.model_types import parse_config
from vlm_dlm.checkpoint.places import Place
from vlm_dlm.checkpoint.record import (
    Record,
    bytes_git_sha1,
    file_sha256,
    git_sha1,
    write_record,
)
from vlm_dlm.checkpoint.refusal import hub_refusal
from vlm_dlm.errors import CheckpointError
from vlm_dlm.sizes import size_text

# (what is being done, bytes done, bytes in all)
OnProgress = Callable[[str, int, int], None]
DOWNLOADING, CHECKING = "Downloading", "Checking"
MAX_SMALL_BYTES = 1_000_000
PIECE_BYTES = 64 * 1024  # as much as the client reads from its connection at once
QUICK_BYTES = 10**8  # checked before anybody wonders


@dataclass(frozen=True, slots=True)
class Plan:
    """What is left to fetch into `place`. missing: files that are not there as announced."""

    listing: Listing
    place: Place
    missing: tuple[RemoteFile, ...]
    checksums: dict[str, str]  # sha256 of the files that are there

    @property
    def num_bytes(self) -> int:
        """Still to be downloaded; parts of an earlier try are kept."""
        return sum(file.num_bytes - part_bytes(self.place.part(file)) for file in self.missing)


def part_bytes(part: Path) -> int:
    """Size of what an earlier try left."""
    return part.stat().st_size if part.is_file() else 0


def make_plan(listing: Listing, place: Place, on_progress: OnProgress) -> Plan:
    """Compare what is there with what is announced, by checksum. Writes nothing."""
    there = [file for file in listing.files if _has_size(place.find(file), file)]
    tally = _Tally(CHECKING, sum(file.num_bytes for file in there), on_progress)
    checksums: dict[str, str] = {}
    for file in there:
        path = place.find(file)
        assert path is not None, "it has a size"
        sha256 = file_sha256(path, tally.add)
        if _is_announced(path, sha256, file):
            checksums[file.name] = sha256
    missing = tuple(file for file in listing.files if file.name not in checksums)
    return Plan(listing, place, missing, checksums)


def _has_size(path: Path | None, file: RemoteFile) -> bool:
    return path is not None and path.stat().st_size == file.num_bytes


def _is_announced(path: Path, sha256: str, file: RemoteFile) -> bool:
    return sha256 == file.sha256 if file.sha256 is not None else git_sha1(path) == file.blob_id


def check_room(plan: Plan) -> None:
    """Raise CheckpointError unless the disk holds what is left to fetch."""
    folder = next(path for path in (plan.place.root, *plan.place.root.parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if plan.num_bytes > free:
        raise CheckpointError(
            f"{plan.listing.repo} needs {size_text(plan.num_bytes)} more on the disk of {folder}, "
            f"which has {size_text(free)} free; make room, or choose another disk "
            "with --to or HF_HOME"
        )


def carry_out(plan: Plan, licence: str, on_progress: OnProgress) -> tuple[Path, Record]:
    """Download what is missing, check it, place it, record it. The folder of the checkpoint.

    Raises CheckpointError, with what to do, where it breaks off; a later try goes on from there.
    """
    tally = _Tally(DOWNLOADING, plan.num_bytes, on_progress)
    checksums = dict(plan.checksums)
    with _quiet_client(), _storing(plan), plan.place.lock():
        for file in plan.missing:
            part = plan.place.part(file)
            _download(plan.listing, file, part, tally)
            checksums[file.name] = _checked(file, part, on_progress)
        folder = plan.place.settle(plan.listing, plan.missing)
        if not all((folder / file.name).is_file() for file in plan.listing.files):
            raise CheckpointError(f"{folder} is not complete; run the same again")
        files = {file.name: (file.num_bytes, checksums[file.name]) for file in plan.listing.files}
        record = Record(plan.listing.repo, plan.listing.commit, licence, files)
        write_record(folder, record)
    return folder, record


@contextmanager
def _storing(plan: Plan) -> Iterator[None]:
    """Whatever else goes wrong, in one sentence."""
    again = "run the same again, which goes on where it stopped"
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        number = getattr(error, "errno", None)  # the disk's errors have one, the client's none
        if number == errno.ENOSPC:
            text = f"the disk of {plan.place.root} is full; make room and {again}"
        elif number is not None:
            text = f"cannot write to {plan.place.root}: {os.strerror(number)}"
        else:
            text = f"fetching {plan.listing.repo} broke off ({type(error).__name__}); {again}"
        raise CheckpointError(text) from error


def _download(listing: Listing, file: RemoteFile, part: Path, tally: _Tally) -> None:
    """Fill `part` up to the file's size."""
    if part_bytes(part) > file.num_bytes:
        part.unlink()
    try:
        with part.open("ab") as out:
            _get(listing, file, out, tally)
    except Exception as error:
        if getattr(error, "errno", None) is not None:  # the disk's, not the network's
            raise
        raise _broken_off(listing, file, part, error) from error


def _get(listing: Listing, file: RemoteFile, out: Any, tally: _Tally) -> None:
    from huggingface_hub import constants, get_token, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(listing.repo, file.name, revision=listing.commit, endpoint=constants.ENDPOINT)
    num_there = out.tell()
    with _small_pieces():
        http_get(
            url,
            out,
            resume_size=num_there,
            headers=build_hf_headers(token=get_token()),
            expected_size=file.num_bytes,
            tqdm_class=cast("Any", _bar_class(tally, num_there)),
        )


@contextmanager
def _small_pieces() -> Iterator[None]:
    """The client loses the piece that it was reading when a connection breaks: 10 MiB by itself."""
    from huggingface_hub import constants

    usual = constants.DOWNLOAD_CHUNK_SIZE
    constants.DOWNLOAD_CHUNK_SIZE = PIECE_BYTES
    try:
        yield
    finally:
        constants.DOWNLOAD_CHUNK_SIZE = usual


def _bar_class(tally: _Tally, num_there: int) -> type:
    """What the Hub's client takes for a progress bar, and makes one of per file."""

    class Bar:
        def __init__(self, *_: object, initial: int = 0, **__: object) -> None:
            tally.add(initial - num_there)  # a server that cannot resume starts again

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def update(self, n: int) -> None:
            tally.add(n)

    return Bar


def _broken_off(
    listing: Listing, file: RemoteFile, part: Path, fault: Exception
) -> CheckpointError:
    refusal = hub_refusal(listing.repo, listing.commit, fault)
    if refusal is not None:
        return CheckpointError(refusal)
    return CheckpointError(
        f"the download of {file.name} broke off after {size_text(part_bytes(part))} of "
        f"{size_text(file.num_bytes)} ({type(fault).__name__}); run the same again, which "
        "goes on there"
    )


def _checked(file: RemoteFile, part: Path, on_progress: OnProgress) -> str:
    """The sha256 of a complete part. One that is not as announced is deleted."""
    is_quick = file.num_bytes < QUICK_BYTES
    tally = _Tally(CHECKING, file.num_bytes, on_progress)
    sha256 = file_sha256(part, None if is_quick else tally.add)
    if not _is_announced(part, sha256, file):
        part.unlink()
        raise CheckpointError(
            f"{file.name} does not have the checksum that the Hub announces, {file.etag[:16]}...; "
            "it was deleted, run the same again"
        )
    return sha256


def read_licence_text(listing: Listing) -> str | None:
    """The repository's own terms; None where it ships none."""
    file = listing.licence_file
    return None if file is None else read_small(listing, file.name)


def read_config(listing: Listing) -> ModelConfig:
    """What the checkpoint is, before anything large is downloaded. Raises CheckpointError."""
    return parse_config(parse_object(read_small(listing, CONFIG), f"{CONFIG} of {listing.repo}"))


def read_small(listing: Listing, name: str) -> str:
    """The text of a small file, kept in memory. Raises CheckpointError."""
    file = next(file for file in listing.files if file.name == name)
    if file.num_bytes > MAX_SMALL_BYTES:
        raise CheckpointError(f"{name} of {listing.repo} has {file.num_bytes} bytes, too many")
    buffer = io.BytesIO()
    try:
        with _quiet_client():
            _get(listing, file, buffer, _Tally("", file.num_bytes, lambda *_: None))
    except Exception as fault:
        raise CheckpointError(
            f"{name} of {listing.repo} cannot be read ({type(fault).__name__}); try again"
        ) from fault
    content = buffer.getvalue()
    checksum = (
        bytes_git_sha1(content) if file.sha256 is None else hashlib.sha256(content).hexdigest()
    )
    if checksum != file.etag:
        raise CheckpointError(
            f"{name} of {listing.repo} arrived damaged: it does not have the checksum that the Hub "
            "announces; run the same again"
        )
    return content.decode("utf-8", errors="replace")


@contextmanager
def _quiet_client() -> Iterator[None]:
    """Without the client's own warnings: a failure is one line, and progress is ours."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Tally:
    """Bytes done of a phase."""

    def __init__(self, phase: str, total: int, on_progress: OnProgress) -> None:
        self._phase = phase
        self._total = total
        self._done = 0
        self._on_progress = on_progress

    def add(self, num_bytes: int) -> None:
        """num_bytes: less than zero where a part turned out to be worthless."""
        self._done += num_bytes
        self._on_progress(self._phase, self._done, self._total)
