"""The account of uploaded pictures."""

from __future__ import annotations

import asyncio
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from vlm_dlm.errors import ImageFormatError
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.page import uploads as module
from vlm_dlm_app.page.picture_kinds import picture_kind
from vlm_dlm_app.page.uploads import UploadLimits, Uploads

PNG = b"\x89PNG\r\n\x1a\n"
LIMITS = UploadLimits(max_bytes=1000, max_files=10, keep_s=60, max_file_bytes=400)
Usage = namedtuple("Usage", "total used free")


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def uploads(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Uploads]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = Uploads(LIMITS, clock)
    yield made
    made.close()
    assert not list(tmp_path.iterdir())


def picture(num_bytes: int) -> bytes:
    return PNG.ljust(num_bytes, b"\0")


def add(uploads: Uploads, client: str, *sizes: int) -> list[str]:
    return asyncio.run(uploads.add(client, [picture(size) for size in sizes]))


def refused(uploads: Uploads, client: str, *sizes: int) -> ApiError:
    before = len(uploads), on_disk(uploads)
    with pytest.raises(ApiError) as caught:
        add(uploads, client, *sizes)
    assert (len(uploads), on_disk(uploads)) == before
    return caught.value


def on_disk(uploads: Uploads) -> int:
    return sum(p.stat().st_size for p in uploads.folder.path.glob("*.png"))


def test_a_client_has_half_and_all_have_the_whole(uploads: Uploads) -> None:
    add(uploads, "a", 400)
    error = refused(uploads, "a", 101)
    assert (error.status, error.code) == (429, "uploads_full")
    assert "500 bytes in 5 files (max_upload_bytes, max_uploads)" in error.message
    add(uploads, "a", 100)
    add(uploads, "b", 400)
    error = refused(uploads, "c", 101)
    assert "1000 bytes in 10 files" in error.message
    add(uploads, "c", 100)
    assert uploads.num_bytes == on_disk(uploads) == 1000


def test_files_are_counted_too(uploads: Uploads) -> None:
    add(uploads, "a", *[10] * 5)
    assert refused(uploads, "a", 10).code == "uploads_full"
    add(uploads, "b", *[10] * 5)
    assert refused(uploads, "c", 10).code == "uploads_full"


def test_what_was_read_gives_way_and_what_was_not_stays(uploads: Uploads) -> None:
    first, second = add(uploads, "a", 250, 250)
    uploads.read(second)
    add(uploads, "a", 200)
    assert uploads.find(first) is not None
    assert uploads.find(second) is None
    with pytest.raises(ApiError, match="no longer"):
        uploads.read(second)


def test_their_time_ends(uploads: Uploads, clock: Clock) -> None:
    (path,) = add(uploads, "a", 400)
    clock.now_s = 59.0
    assert uploads.find(path) is not None
    clock.now_s = 60.0
    assert uploads.find(path) is None
    uploads.drop_old()
    assert on_disk(uploads) == uploads.num_bytes == 0


def test_a_nearly_full_disk_is_said_before_it_is_full(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = module.RESERVED_BYTES + 99
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free))
    assert "nearly full" in refused(uploads, "a", 100).message
    add(uploads, "a", 99)


def test_a_failed_upload_leaves_nothing(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Path.open
    opened: list[Path] = []

    def fails_second(self: Path, *args: object, **kwargs: object) -> object:
        opened.append(self)
        if len(opened) == 2:
            raise OSError(28, "No space left on device")
        return plain(self, *args, **kwargs)  # pyright: ignore

    monkeypatch.setattr(Path, "open", fails_second)
    assert refused(uploads, "a", 100, 100).code == "uploads_full"
    assert uploads.num_bytes == 0


def test_an_aborted_upload_leaves_nothing(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def aborted() -> None:
        task = asyncio.create_task(uploads.add("a", [picture(100), picture(100)]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(aborted())
    assert (len(uploads), on_disk(uploads)) == (0, 0)


def test_too_large_and_no_picture(uploads: Uploads) -> None:
    error = refused(uploads, "a", 401)
    assert error.code == "image_too_large"
    assert error.message == "the picture has 401 bytes; the limit is 400 (max_image_bytes)"
    with pytest.raises(ApiError) as caught:
        asyncio.run(uploads.add("a", [picture(10), b"<html>"]))
    assert (caught.value.status, caught.value.code) == (415, "unsupported_image")
    assert len(uploads) == 0


@pytest.mark.parametrize("path", ["/etc/passwd", "", "/uploads/x.png", ".lock", "../x"])
def test_only_names_that_were_given_are_found(uploads: Uploads, path: str) -> None:
    add(uploads, "a", 10)
    assert uploads.find(path) is None
    uploads.free([path])
    assert len(uploads) == 1


@pytest.mark.parametrize(
    ("data", "ending"),
    [
        (PNG, "png"),
        (b"\xff\xd8\xff\xe0", "jpg"),
        (b"GIF89a", "gif"),
        (b"RIFF\0\0\0\0WEBP", "webp"),
        (b"BM\0\0", "bmp"),
        (b"II*\0", "tiff"),
        (b"\0\0\0\x20ftypavif", "avif"),
        (b"\0\0\0\x20ftypmif1\0\0\0\0mif1avif", "avif"),
    ],
)
def test_kinds_of_pictures(data: bytes, ending: str) -> None:
    assert picture_kind(data).ending == ending


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"RIFF\0\0\0\0WAVE", "not in a supported format"),
        (b"<svg", "is SVG, which"),
        (b"%PDF-", "is a PDF file, which"),
        (b"\0\0\0\x20ftypmif1\0\0\0\0mif1heic", "is HEIC, which"),
        (b"", "not in a supported format"),
    ],
)
def test_what_is_none_is_named(data: bytes, said: str) -> None:
    with pytest.raises(ImageFormatError, match=f"the file .*{said}"):
        picture_kind(data)
