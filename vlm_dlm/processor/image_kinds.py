"""Which format a file is in, by its first bytes, and how it is said that one is not read."""

from __future__ import annotations

from collections.abc import Iterable

from PIL import features

from vlm_dlm.errors import ImageFormatError

# AVIF is there in Pillow's own wheels, but not in every build of it.
FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"),
    *(("AVIF",) if features.check("avif") else ()),
)
# Enough of a file to tell what it is.
_HEAD_BYTES = 1024
_MAX_BRANDS = 16
_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    # and what is often sent instead
    (b"%PDF-", "a PDF file"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"8BPS", "a Photoshop file"),
    (b"\0\0\x01\0", "an icon file"),
    (b"%!PS", "PostScript"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x1a\x45\xdf\xa3", "a video"),
    (b"version https://git-lfs", "a Git LFS pointer"),
)
_MARKUP = ((b"<svg", "SVG"), (b"<!doctype html", "a web page"), (b"<html", "a web page"))


def kind_of(data: bytes) -> str | None:
    """The format's name in FORMATS, or in words for some others, or None."""
    head = data[:_HEAD_BYTES]
    if head[4:8] == b"ftyp":
        return _boxed_kind(head)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    for start, name in _STARTS:
        if head.startswith(start):
            return name
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<"):
        return next((name for mark, name in _MARKUP if mark in text), None)
    return None


def check_kind(data: bytes, formats: Iterable[str], name: str = "the image") -> str:
    """The format, if it is one of `formats`. Raises ImageFormatError, which names it otherwise."""
    formats = tuple(formats)
    kind = kind_of(data)
    if kind in formats:
        return str(kind)
    known = ", ".join(formats)
    if kind is None:
        raise ImageFormatError(f"{name} is not in a supported format ({known})")
    raise ImageFormatError(f"{name} is {kind}, which is not a supported format ({known})")


def _boxed_kind(head: bytes) -> str:
    """Of a file of the ISO family: its major brand, then the compatible ones."""
    end = min(int.from_bytes(head[:4], "big"), len(head), 16 + 4 * _MAX_BRANDS)
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, end, 4))]
    for brand in brands:
        if brand in _AVIF_BRANDS:
            return "AVIF"
        if brand in _HEIC_BRANDS:
            return "HEIC"
    return "a video"
