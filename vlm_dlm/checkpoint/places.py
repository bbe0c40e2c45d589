"""Where fetched files go: the Hub's cache, in which every tool finds them, or a plain folder."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vlm_dlm.checkpoint.family import DATA_FILES, LICENCE_FILES
from vlm_dlm.checkpoint.listing import Listing, RemoteFile
from vlm_dlm.checkpoint.record import RECORD_FILE, Record, read_record
from vlm_dlm.errors import CheckpointError

LOCK_WAIT_S = 0.2


class Place(ABC):
    """A folder tree that fetched files go to. root: need not exist yet."""

    root: Path
    folder: Path  # of the checkpoint, in the end

    @abstractmethod
    def find(self, file: RemoteFile) -> Path | None:
        """The file if it is there, whatever it holds."""

    @abstractmethod
    def part(self, file: RemoteFile) -> Path:
        """Where it grows until it is whole."""

    @abstractmethod
    def settle(self, listing: Listing, fresh: Sequence[RemoteFile]) -> Path:
        """Give whole parts their names. Returns the folder of the checkpoint."""

    @abstractmethod
    def lock_file(self) -> Path:
        """Held by who fetches."""

    def record(self) -> Record | None:
        """Of an earlier fetch that was completed; None also for a damaged one."""
        try:
            return read_record(self.folder)
        except CheckpointError:
            return None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folders. Raises CheckpointError if somebody else is fetching the same."""
        from filelock import Timeout
        from huggingface_hub.utils import WeakFileLock

        path = self.lock_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with WeakFileLock(path, timeout=LOCK_WAIT_S):
                yield
        except Timeout:
            raise CheckpointError(
                f"somebody else is fetching into {self.root}; wait until that is done"
            ) from None
        self.tidy()

    @abstractmethod
    def tidy(self) -> None:
        """Called once all is settled and the lock is free."""


class CachePlace(Place):
    """The Hub's cache: contents under their checksums, and a snapshot folder that names them."""

    def __init__(self, repo: str, commit: str, revision: str | None) -> None:
        """revision: as typed; a name that is no commit is kept as a reference to the commit."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        name = repo_folder_name(repo_id=repo, repo_type="model")
        cache = Path(constants.HF_HUB_CACHE).expanduser()
        self.root = cache / name
        self._locks = cache / ".locks" / name
        self.folder = self.root / "snapshots" / commit
        self._reference = self.root / "refs" / (revision or constants.DEFAULT_REVISION)
        self._is_named = revision != commit

    def find(self, file: RemoteFile) -> Path | None:
        for path in (self.folder / file.name, self._blob(file)):
            if path.is_file():
                return path
        return None

    def part(self, file: RemoteFile) -> Path:
        return self.root / "blobs" / f"{file.etag}.vlm-dlm.incomplete"

    def lock_file(self) -> Path:
        (self.root / "blobs").mkdir(parents=True, exist_ok=True)
        return self._locks / "vlm-dlm.lock"

    def settle(self, listing: Listing, fresh: Sequence[RemoteFile]) -> Path:
        """The contents are moved, the client makes the snapshot of them."""
        from huggingface_hub import snapshot_download

        for file in fresh:
            (self.folder / file.name).unlink(missing_ok=True)  # it held something else
            if self.part(file).exists():  # two files may have the same content
                os.replace(self.part(file), self._blob(file))
        folder = snapshot_download(
            listing.repo,
            revision=listing.commit,
            allow_patterns=[*DATA_FILES, *LICENCE_FILES],
            tqdm_class=_silent(),
        )
        if self._is_named:  # how the cache is asked for it without a network
            self._reference.parent.mkdir(parents=True, exist_ok=True)
            self._reference.write_text(listing.commit, encoding="ascii")
        return Path(folder)

    def tidy(self) -> None:
        """The client keeps its locks, and so do we."""

    def _blob(self, file: RemoteFile) -> Path:
        return self.root / "blobs" / file.etag


class FolderPlace(Place):
    """A plain folder, its own or a new one."""

    def __init__(self, folder: Path, repo: str) -> None:
        self.root = self.folder = folder
        self._parts = folder / ".fetching"
        if folder.exists() and not folder.is_dir():
            raise CheckpointError(f"{folder} is a file; choose a new folder")
        record = self.record()
        is_ours = record.repo == repo if record is not None else self._has_traces()
        if folder.is_dir() and not is_ours and any(folder.iterdir()):
            raise CheckpointError(f"{folder} holds other things; choose a new or empty folder")

    def find(self, file: RemoteFile) -> Path | None:
        path = self.root / file.name
        return path if path.is_file() else None

    def part(self, file: RemoteFile) -> Path:
        return self._parts / f"{file.name.replace('/', '__')}.{file.etag[:16]}"

    def _has_traces(self) -> bool:
        """An earlier try stopped here, or its record was damaged."""
        return self._parts.is_dir() or (self.folder / RECORD_FILE).is_file()

    def lock_file(self) -> Path:
        return self._parts / "lock"

    def settle(self, listing: Listing, fresh: Sequence[RemoteFile]) -> Path:
        for file in fresh:
            path = self.root / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.part(file), path)
        self._drop_old(listing)
        return self.root

    def _drop_old(self, listing: Listing) -> None:
        """Delete what the earlier fetch brought and this revision lacks: it would be loaded."""
        record = self.record()
        names = set() if record is None else set(record.files)
        for name in sorted(names - {file.name for file in listing.files}):
            path = self.root / name
            if path.parent.resolve().is_relative_to(self.root.resolve()):  # a record may be edited
                path.unlink(missing_ok=True)

    def tidy(self) -> None:
        shutil.rmtree(self._parts, ignore_errors=True)


def _silent() -> type:
    from huggingface_hub.utils import tqdm

    class Silent(tqdm):
        """No bar: all is here already."""

        def __init__(self, *args: object, **kwargs: object) -> None:
            kwargs["disable"] = True
            super().__init__(*args, **kwargs)

    return Silent
