"""What kind of picture bytes are, by how they begin. Whether they are a good one is found when they
are decoded, in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PictureKind:
    """ending: of a file's name. media_type: as browsers know it."""

    ending: str
    media_type: str


PNG = PictureKind("png", "image/png")
JPEG = PictureKind("jpg", "image/jpeg")
GIF = PictureKind("gif", "image/gif")
WEBP = PictureKind("webp", "image/webp")
BMP = PictureKind("bmp", "image/bmp")
TIFF = PictureKind("tiff", "image/tiff")
AVIF = PictureKind("avif", "image/avif")
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"BM", BMP),
    (b"II*\x00", TIFF),
    (b"MM\x00*", TIFF),
)
_AVIF_BRANDS = (b"avif", b"avis", b"mif1")


def kind_of(data: bytes) -> PictureKind | None:
    """None for what begins as no picture does."""
    for beginning, kind in _BEGINNINGS:
        if data.startswith(beginning):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WEBP
    if data[4:8] == b"ftyp" and data[8:12] in _AVIF_BRANDS:
        return AVIF
    return None
