"""What a Hub repository holds at one commit, and under which licence. Downloads no weights."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from vlm_dlm.checkpoint.family import DATA_FILES, LICENCE_FILES, MEMBERS, Licence
from vlm_dlm.checkpoint.refusal import as_checkpoint_error
from vlm_dlm.errors import CheckpointError

TIMEOUT_S = 10.0
CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file to fetch. Large files have a sha256, small ones git's own checksum, `blob_id`."""

    name: str
    num_bytes: int
    sha256: str | None
    blob_id: str

    @property
    def etag(self) -> str:
        """The name of its content in the Hub's cache."""
        return self.sha256 or self.blob_id


@dataclass(frozen=True, slots=True)
class Listing:
    """The files that make a checkpoint, at `commit`. licences: what is known, then what it says."""

    repo: str
    commit: str
    files: tuple[RemoteFile, ...]
    licences: tuple[Licence, ...]

    @property
    def num_bytes(self) -> int:
        """Of all files."""
        return sum(file.num_bytes for file in self.files)

    @property
    def licence_file(self) -> RemoteFile | None:
        """The text of the terms, where the repository ships it."""
        named = (file for file in self.files if file.name.startswith("LICENSE"))
        return next(named, None)

    @property
    def licence_url(self) -> str | None:
        """Where a browser shows that text, at this commit; None where the repository ships none."""
        from huggingface_hub import constants

        file = self.licence_file
        return file and f"{constants.ENDPOINT}/{self.repo}/blob/{self.commit}/{file.name}"


def list_repository(repo: str, revision: str | None, timeout_s: float = TIMEOUT_S) -> Listing:
    """Ask the Hub, and whether the files may be read. Raises CheckpointError with its answer."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise CheckpointError("offline mode is on; unset HF_HUB_OFFLINE to fetch")
    from huggingface_hub import HfApi, get_hf_file_metadata, get_token, hf_hub_url  # half a second

    try:
        info = HfApi().model_info(repo, revision=revision, timeout=timeout_s, files_metadata=True)
        listing = _listing(repo, info)
        # A gated repository may be listed by everybody; reading a file tells.
        url = hf_hub_url(repo, CONFIG, revision=listing.commit, endpoint=constants.ENDPOINT)
        get_hf_file_metadata(url, token=get_token(), timeout=timeout_s)
    except CheckpointError:
        raise
    # The client's errors share no base class across its versions.
    except Exception as fault:
        raise as_checkpoint_error(repo, revision, fault) from fault
    return listing


def _listing(repo: str, info: Any) -> Listing:
    files = tuple(_remote_file(repo, s) for s in info.siblings or () if is_wanted(s.rfilename))
    if CONFIG not in {file.name for file in files}:
        raise CheckpointError(f"{repo} holds no {CONFIG}, so it is no checkpoint")
    return Listing(repo, str(info.sha), files, _licences(repo, info))


def is_wanted(name: str) -> bool:
    """Whether a file of a repository is ever fetched."""
    return any(fnmatchcase(name, pattern) for pattern in DATA_FILES) or name in LICENCE_FILES


def _remote_file(repo: str, sibling: Any) -> RemoteFile:
    name = str(sibling.rfilename)
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        raise CheckpointError(f"{repo} lists a file {name!r}, which would leave its folder")
    if sibling.size is None or sibling.blob_id is None:
        raise CheckpointError(f"the Hub does not say how large {name} of {repo} is")
    lfs = sibling.lfs
    if lfs is None:
        return RemoteFile(name, int(sibling.size), None, str(sibling.blob_id))
    return RemoteFile(name, int(lfs.size), str(lfs.sha256), str(sibling.blob_id))


def _licences(repo: str, info: Any) -> tuple[Licence, ...]:
    member = MEMBERS.get(repo)
    known = () if member is None else (member.licence,)
    card = info.card_data
    names = [getattr(card, key, None) for key in ("license_name", "license")]
    name = next((str(name) for name in names if name and name != "other"), None)
    if name is None:
        return known or (Licence("unknown", "no licence is named", _page(repo)),)
    link = str(getattr(card, "license_link", None) or "")
    own = Licence(name, name, link if link.startswith("https://") else _page(repo))
    return known if any(licence.is_named_by(name) for licence in known) else (*known, own)


def _page(repo: str) -> str:
    return f"https://huggingface.co/{repo}"
