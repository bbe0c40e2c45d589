"""What was fetched, written beside it: a file that has changed since is noticed at load.

Side files (config, tokenizer, template) are hashed at every load, weights compared by size only:
hashing 18 GB takes longer than reading them. A second `vlm-dlm fetch` hashes them too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vlm_dlm.errors import CheckpointError

RECORD_FILE = "fetched.json"
NOT_ASKED = "not asked for"  # the licence of a checkpoint that came without `vlm-dlm fetch`
CHUNK_BYTES = 1 << 20
LOADED_SUFFIXES = (".json", ".jinja", ".safetensors")  # others are never read


@dataclass(frozen=True, slots=True)
class Record:
    """A fetched checkpoint.

    licence: what was accepted.
    files: name to (bytes, sha256).
    """

    repo: str
    commit: str
    licence: str
    files: dict[str, tuple[int, str]]


def write_record(folder: Path, record: Record) -> None:
    """Appears whole or not at all."""
    document = {
        "repository": record.repo,
        "revision": record.commit,
        "licence": record.licence,
        "files": {
            name: {"bytes": num_bytes, "sha256": sha256}
            for name, (num_bytes, sha256) in sorted(record.files.items())
        },
    }
    draft = folder / f".{RECORD_FILE}.tmp"
    draft.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    os.replace(draft, folder / RECORD_FILE)


def read_record(folder: Path) -> Record | None:
    """None where nothing was fetched. Raises CheckpointError for a damaged record."""
    path = folder / RECORD_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        files = {
            str(name): (int(entry["bytes"]), str(entry["sha256"]))
            for name, entry in raw["files"].items()
        }
        return Record(str(raw["repository"]), str(raw["revision"]), str(raw["licence"]), files)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({type(error).__name__}); fetch the checkpoint again"
        ) from None


def check_record(folder: Path) -> None:
    """Raise CheckpointError if a fetched folder no longer holds what was fetched."""
    record = read_record(folder)
    if record is None:
        return
    accept = f"deleting {RECORD_FILE} there accepts the change"
    faults = (_fault(folder, name, record) for name in sorted(record.files))
    fault = next((text for text in faults if text is not None), None)
    if fault is not None:
        raise CheckpointError(
            f"{fault} {folder} after it was fetched; `{_command(folder, record)}` "
            f"restores what it was, {accept}"
        )
    added = next((path for path in sorted(folder.iterdir()) if _is_added(path, record)), None)
    if added is not None:
        raise CheckpointError(
            f"{added.name} was added to {folder} after it was fetched; deleting {added.name} "
            f"restores what it was, {accept}"
        )


def _command(folder: Path, record: Record) -> str:
    """What fetches into this very folder."""
    snapshot = (f"models--{record.repo.replace('/', '--')}", "snapshots", record.commit)
    place = "" if folder.absolute().parts[-3:] == snapshot else f" --to {shlex.quote(str(folder))}"
    return f"vlm-dlm fetch {record.repo}@{record.commit}{place}"


def _fault(folder: Path, name: str, record: Record) -> str | None:
    path = folder / name
    num_bytes, sha256 = record.files[name]
    if not path.is_file():
        return f"{name} is gone from"
    is_same = path.stat().st_size == num_bytes
    if is_same and path.suffix != ".safetensors":
        is_same = file_sha256(path) == sha256
    return None if is_same else f"{name} was changed in"


def _is_added(path: Path, record: Record) -> bool:
    return path.suffix in LOADED_SUFFIXES and path.name not in {*record.files, RECORD_FILE}


def file_sha256(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """Checksum of a file's content. on_bytes: called with the size of each piece read."""
    return _digest(path, hashlib.sha256(), on_bytes)


def bytes_git_sha1(content: bytes) -> str:
    """The checksum that git gives a content, its blob id."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def git_sha1(path: Path) -> str:
    """The checksum that git gives the content of a file, its blob id."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    return _digest(path, digest, None)


def _digest(path: Path, digest: hashlib._Hash, on_bytes: Callable[[int], None] | None) -> str:
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
            if on_bytes is not None:
                on_bytes(len(piece))
    return digest.hexdigest()
