"""The checkpoint that is looked at: where it is, how much of it is here. Downloads no weights.

Free of torch. A checkpoint that is not here is known from its config on the Hub, or, where that
cannot be asked, from what is known of the published ones.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.checkpoint.family import HUB_ID, MEMBERS, Licence, split_hub_id
from vlm_dlm.checkpoint.manifest import read_manifest
from vlm_dlm.checkpoint.model_types import expected_tensors
from vlm_dlm.checkpoint.record import NOT_ASKED, Record, read_record
from vlm_dlm.checkpoint.resolve import cached_snapshot
from vlm_dlm.defaults import EMBEDDED, num_parameters
from vlm_dlm.errors import CheckpointError
from vlm_dlm.preflight import open_checkpoint

HERE, PARTLY, ABSENT = "here", "partly here", "not here"
STORED_BYTES = 2  # of one parameter as published, in BF16
HUB_TIMEOUT_S = 4.0


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """A checkpoint as stored or published.

    file_bytes: of its weight files, or of the download.
    state: here, partly here or not here.
    missing_bytes: still to be downloaded.
    disk_free_bytes: where they would go, None if nowhere.
    licence: as far as it is known.
    note: why these facts are second-hand, or ''.
    """

    name: str
    model_type: str
    num_tensors: int
    num_parameters: int
    file_bytes: int
    stored_dtypes: tuple[str, ...]
    max_context: int
    state: str = HERE
    missing_bytes: int = 0
    disk_free_bytes: int | None = None
    licence: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is diagnosed."""

    config: ModelConfig
    facts: CheckpointFacts


def find_subject(model: str | None) -> Subject:
    """The embedded checkpoint (None), a folder, or a Hub id, here or not.

    Raises CheckpointError for what cannot be a checkpoint, one that is damaged, and a Hub id of
    which nothing can be told.
    """
    is_hub_id = model is not None and HUB_ID.fullmatch(model) and not Path(model).exists()
    if not is_hub_id:
        return _here(model, EMBEDDED if model is None else model)
    assert model is not None, "it is a Hub id"
    repo, revision = split_hub_id(model)
    folder = cached_snapshot(repo, revision)
    if folder is not None:
        return _here(str(folder), model)
    try:
        return _published(model, repo, revision)
    except CheckpointError as error:
        if repo not in MEMBERS:
            raise
        return _known(model, repo, str(error))


def _here(model: str | None, name: str) -> Subject:
    checkpoint = open_checkpoint(model)
    manifest = read_manifest(checkpoint.folder)
    record = read_record(checkpoint.folder)
    facts = replace(
        _facts(name, checkpoint.config),
        file_bytes=sum(file.stat().st_size for file in {info.file for info in manifest.values()}),
        stored_dtypes=tuple(sorted({info.dtype for info in manifest.values()})),
        licence=None if record is None else _accepted(record),
    )
    return Subject(checkpoint.config, facts)


def _published(model: str, repo: str, revision: str | None) -> Subject:
    """From the Hub: the list of files and the config, both kept in memory."""
    from vlm_dlm.checkpoint.download import part_bytes, read_config
    from vlm_dlm.checkpoint.listing import list_repository
    from vlm_dlm.checkpoint.places import CachePlace

    listing = list_repository(repo, revision, HUB_TIMEOUT_S)
    config = read_config(listing)
    place = CachePlace(repo, listing.commit, revision)
    absent = [file for file in listing.files if place.find(file) is None]
    missing = sum(file.num_bytes - part_bytes(place.part(file)) for file in absent)
    facts = replace(
        _facts(model, config),
        file_bytes=listing.num_bytes,
        state=ABSENT if missing == listing.num_bytes else PARTLY,
        missing_bytes=missing,
        disk_free_bytes=_free_disk(place.root),
        licence="; ".join(_name(licence) for licence in listing.licences),
    )
    return Subject(config, facts)


def _known(model: str, repo: str, reason: str) -> Subject:
    """A published checkpoint without asking anybody."""
    from vlm_dlm.checkpoint.places import CachePlace

    member = MEMBERS[repo]
    num_bytes = STORED_BYTES * num_parameters(member.config)
    facts = replace(
        _facts(model, member.config),
        file_bytes=num_bytes,
        state=ABSENT,
        missing_bytes=num_bytes,
        disk_free_bytes=_free_disk(CachePlace(repo, "", "").root),
        licence=_name(member.licence),
        note=f"from what is known of it, as {reason}",
    )
    return Subject(member.config, facts)


def _facts(name: str, config: ModelConfig) -> CheckpointFacts:
    return CheckpointFacts(
        name=name,
        model_type=config.model_type,
        num_tensors=len(expected_tensors(config)),
        num_parameters=num_parameters(config),
        file_bytes=0,
        stored_dtypes=("BF16",),
        max_context=config.max_position_embeddings,
    )


def _accepted(record: Record) -> str:
    return NOT_ASKED if record.licence == NOT_ASKED else f"{record.licence}, accepted"


def _name(licence: Licence) -> str:
    return f"{licence.name}, {licence.url}"


def _free_disk(folder: Path) -> int:
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    return shutil.disk_usage(there).free
