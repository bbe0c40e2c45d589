"""How pictures are named and shown, by their format as `vlm_dlm.processor.image_kinds` finds it."""

from __future__ import annotations

from dataclasses import dataclass

from vlm_dlm.processor.image_kinds import FORMATS, check_kind


@dataclass(frozen=True, slots=True)
class PictureKind:
    """How pictures of one format are named and shown.

    ending: of a file's name.
    media_type: as browsers know it.
    """

    ending: str
    media_type: str


_KINDS = {
    name: PictureKind("jpg" if name == "JPEG" else name.lower(), f"image/{name.lower()}")
    for name in FORMATS
}


def picture_kind(data: bytes) -> PictureKind:
    """Raises ImageFormatError for what is no picture that is read here. Whether it is a good one is
    found when it is decoded, in a process of its own."""
    return _KINDS[check_kind(data, FORMATS, "the file")]
