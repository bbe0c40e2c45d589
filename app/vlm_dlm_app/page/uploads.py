"""Pictures that visitors upload: on the disk for minutes, in a folder of this server's own.

The disk is everybody's, so it has an account: bytes and files, of each client and of all, are
counted before anything is written. What was used gives way to what is new; what was not is kept for
its time.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from time import monotonic
from typing import BinaryIO

from vlm_dlm.errors import ImageFormatError
from vlm_dlm.shares import share_of
from vlm_dlm_app.answering.image_sources import Source
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.page.handlers import UPLOADED
from vlm_dlm_app.page.own_folder import OwnFolder
from vlm_dlm_app.page.picture_kinds import PictureKind, picture_kind

logger = logging.getLogger(__name__)
# Left to everything else that writes there.
RESERVED_BYTES = 16 * 2**20
SWEEP_S = 30.0


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Of all together, half of it for one client.

    keep_s: how long a file lies there.
    """

    max_bytes: int
    max_files: int
    keep_s: float
    max_file_bytes: int

    @property
    def max_client_bytes(self) -> int:
        return share_of(self.max_bytes, least=min(self.max_file_bytes, self.max_bytes))

    @property
    def max_client_files(self) -> int:
        return share_of(self.max_files)


@dataclass(slots=True, eq=False)
class Upload:
    """One picture.

    path: as clients name it, known to its visitor alone.
    is_used: whether it was read, so that it may give way.
    """

    path: str
    place: Path
    client: str
    kind: PictureKind
    num_bytes: int
    ends_s: float
    is_used: bool = False


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A picture by its name, to be read when it is needed."""

    uploads: Uploads
    path: str
    num_bytes: int

    def read(self) -> bytes:
        """See `Uploads.read`."""
        return self.uploads.read(self.path)[1]


class Uploads:
    """Keeps them. clock: seconds. Everything but the disk's work is for the event loop alone."""

    def __init__(self, limits: UploadLimits, clock: Callable[[], float] = monotonic) -> None:
        self.limits = limits
        self.folder = OwnFolder()
        self._clock = clock
        self._kept: dict[str, Upload] = {}  # by path, oldest first

    @property
    def num_bytes(self) -> int:
        return sum(upload.num_bytes for upload in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    async def add(self, client: str, pictures: Sequence[bytes]) -> list[str]:
        """Their paths; all of them are kept, or none.

        Raises ApiError: 413, 415, and 429 where there is no room.
        """
        kinds = [self._checked(data) for data in pictures]
        self.drop_old()
        found = self._reserve(client, [len(data) for data in pictures], kinds)
        try:
            await _written([upload.place for upload in found], pictures)
        except BaseException as error:
            self._drop(found)
            if isinstance(error, OSError):
                logger.warning("an uploaded picture could not be written: %s", error.strerror)
                raise _full("the disk of the server is full") from None
            raise
        return [upload.path for upload in found]

    def find(self, path: str) -> Upload | None:
        """The picture of that very name. Nothing is looked up on the disk."""
        upload = self._kept.get(path)
        return None if upload is None or upload.ends_s <= self._clock() else upload

    def opened(self, path: str) -> tuple[Upload, BinaryIO]:
        """The picture and its file, to be closed by the caller. Raises ApiError (404)."""
        upload = self.find(path)
        try:
            if upload is not None:
                file = upload.place.open("rb")
                upload.is_used = True
                return upload, file
        except OSError:
            pass
        raise _gone()

    def read(self, path: str) -> tuple[PictureKind, bytes]:
        """Its kind and content. Blocking, up to `max_file_bytes`. Raises ApiError (404)."""
        upload, file = self.opened(path)
        with file:
            return upload.kind, file.read()

    def named(self, source: Source) -> Source:
        """The picture that it names, where it is such a name, to be read later. Raises ApiError
        (404)."""
        if not isinstance(source, str) or not source.startswith(UPLOADED):
            return source
        upload = self.find(source)
        if upload is None:
            raise _gone()
        return UploadedFile(self, source, upload.num_bytes)

    def in_text(self, source: str) -> str:
        """The picture that it names, where it is such a name, as a data URI. Blocking. Raises
        ApiError (404)."""
        if not source.startswith(UPLOADED):
            return source
        kind, data = self.read(source)
        return f"data:{kind.media_type};base64,{b64encode(data).decode('ascii')}"

    def free(self, paths: Iterable[str]) -> None:
        """Their visitor is done with them; names that are not known are passed over."""
        self._drop([self._kept[path] for path in paths if path in self._kept])

    def drop_old(self) -> None:
        """Whatever has been there for its time."""
        now = self._clock()
        self._drop([upload for upload in self._kept.values() if upload.ends_s <= now])

    async def sweep(self) -> None:
        """Run for as long as the server."""
        while True:
            await asyncio.sleep(min(SWEEP_S, self.limits.keep_s))
            self.drop_old()

    def close(self) -> None:
        """Nothing is left on the disk."""
        self._kept.clear()
        self.folder.remove()

    def _checked(self, data: bytes) -> PictureKind:
        limit = self.limits.max_file_bytes
        if len(data) > limit:
            message = f"the picture has {len(data)} bytes; the limit is {limit} (max_image_bytes)"
            raise ApiError("image_too_large", message, "files")
        try:
            return picture_kind(data)
        except ImageFormatError as error:
            raise ApiError(ImageFormatError.code, str(error), "files") from None

    def _reserve(
        self, client: str, sizes: Sequence[int], kinds: Sequence[PictureKind]
    ) -> list[Upload]:
        """Count them before they are written, so that many at once cannot be too many."""
        self._make_room(client, sum(sizes), len(sizes))
        if shutil.disk_usage(self.folder.path).free - sum(sizes) < RESERVED_BYTES:
            raise _full("the disk of the server is nearly full")
        ends_s = self._clock() + self.limits.keep_s
        found: list[Upload] = []
        for size, kind in zip(sizes, kinds, strict=True):
            name = f"{token_hex(16)}.{kind.ending}"
            place = self.folder.path / name
            found.append(Upload(f"{UPLOADED}{name}", place, client, kind, size, ends_s))
        self._kept |= {upload.path: upload for upload in found}
        return found

    def _make_room(self, client: str, num_bytes: int, num_files: int) -> None:
        """Raises ApiError (429) where even what was used leaves too little."""
        limits = self.limits
        whole = f"{limits.max_bytes} bytes in {limits.max_files} files"
        own = f"{limits.max_client_bytes} bytes in {limits.max_client_files} files"
        for limit_bytes, limit_files, words, is_counted in (
            (limits.max_client_bytes, limits.max_client_files, f"one visitor: {own}", client),
            (limits.max_bytes, limits.max_files, f"all together: {whole}", None),
        ):
            counted = [u for u in self._kept.values() if is_counted in (None, u.client)]
            room_bytes = limit_bytes - sum(upload.num_bytes for upload in counted)
            room_files = limit_files - len(counted)
            going: list[Upload] = []
            for upload in counted:
                if room_bytes >= num_bytes and room_files >= num_files:
                    break
                if upload.is_used:
                    going.append(upload)
                    room_bytes, room_files = room_bytes + upload.num_bytes, room_files + 1
            if room_bytes < num_bytes or room_files < num_files:
                raise _full(
                    f"no more pictures can be uploaded for now; the limit of {words} "
                    "(max_upload_bytes, max_uploads)"
                )
            self._drop(going)

    def _drop(self, uploads: Sequence[Upload]) -> None:
        for upload in uploads:
            self._kept.pop(upload.path, None)
            try:
                upload.place.unlink(missing_ok=True)
            except OSError:
                logger.warning("an uploaded picture could not be deleted")


async def _written(places: Sequence[Path], contents: Sequence[bytes]) -> None:
    """Returns or raises once nothing is being written any more, also when it is cancelled."""
    writing = asyncio.ensure_future(asyncio.to_thread(_write, places, contents))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait({writing})
        raise


def _write(places: Sequence[Path], contents: Sequence[bytes]) -> None:
    for place, data in zip(places, contents, strict=True):
        with place.open("xb") as file:
            file.write(data)


def _gone() -> ApiError:
    return ApiError("not_found", "there is no uploaded picture of that name, or no longer")


def _full(message: str) -> ApiError:
    return ApiError("uploads_full", message, retry_after_s=int(SWEEP_S))
