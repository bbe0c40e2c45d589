"""The child process that decodes untrusted images: `python -m vlm_dlm.serving.decode_child`.

Reads requests from its standard input and answers on its standard output, both as fixed binary
headers followed by as many bytes as they announce. Before the first request it gives up memory
beyond a limit, opening files or sockets, and writing to disk. It ends when its input does.
"""

from __future__ import annotations

import math
import resource
import struct
import sys
from enum import IntEnum
from io import BytesIO
from typing import BinaryIO, NamedTuple

# Imported now, because nothing can be opened later; each registers itself or is used by the others.
from PIL import (
    GifImagePlugin,
    Image,
    ImageColor,
    ImageFile,
    ImagePalette,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from vlm_dlm.errors import ImageError
from vlm_dlm.processor.image_input import ImageLimits, upright_rgb

PRELOADED = (
    GifImagePlugin,
    ImageColor,
    ImageFile,
    ImagePalette,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
READY = b"R"
# Up to here a picture goes out pixel for pixel, so that an answer does not depend on how the image
# came in: the model's resize has no antialiasing and would see any earlier one. It covers photos of
# common cameras; above, the memory of the receiver counts for more.
MAX_WHOLE_PIXELS = 16_000_000
_STANDARD_STREAMS = 3


class Request(NamedTuple):
    """Followed by `num_bytes` of image data. width, height: what the header promised.
    max_side: for pictures above MAX_WHOLE_PIXELS, 0 for no limit."""

    num_bytes: int
    width: int
    height: int
    max_side: int
    apply_exif: bool


class Reply(NamedTuple):
    """If `outcome` is OK, followed by width * height * 3 bytes of RGB."""

    outcome: int
    width: int = 0
    height: int = 0


class Outcome(IntEnum):
    """No text crosses the pipe: what the caller is told is written on the other side."""

    OK = 0
    DAMAGED = 1
    CONTRADICTION = 2
    TOO_LARGE = 3


REQUEST = struct.Struct(">IIIIB")
REPLY = struct.Struct(">BII")


def main() -> None:
    """Arguments: address space in bytes, processor seconds for one image."""
    memory_bytes, cpu_s = (int(text) for text in sys.argv[1:3])
    Image.MAX_IMAGE_PIXELS = None  # the size is compared with the promise right after opening
    Image.preinit()
    _give_up_rights(memory_bytes)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    _write(sink, READY)
    while header := source.read(REQUEST.size):
        request = Request(*REQUEST.unpack(header))
        _limit_cpu(cpu_s)
        reply, pixels = answer(request, source.read(request.num_bytes))
        _write(sink, REPLY.pack(*reply))
        _write(sink, pixels)


def answer(request: Request, data: bytes) -> tuple[Reply, bytes]:
    """One image decoded, or why not."""
    try:
        outcome, picture = _decode(request, data)
        if picture is None:
            return Reply(outcome), b""
        return Reply(outcome, *picture.size), picture.tobytes()
    except MemoryError:
        return Reply(Outcome.TOO_LARGE), b""


def _decode(request: Request, data: bytes) -> tuple[Outcome, Image.Image | None]:
    promised = request.width, request.height
    limits = ImageLimits(max_pixels=math.prod(promised), max_side=max(promised))
    try:
        image = Image.open(BytesIO(data), formats=limits.formats)
    except MemoryError:
        raise
    except Exception:  # header parsers raise many types on hostile bytes; none may pass
        return Outcome.DAMAGED, None
    if image.size != promised:
        return Outcome.CONTRADICTION, None
    try:
        picture = upright_rgb(image, limits=limits, apply_exif=bool(request.apply_exif))
    except ImageError as error:
        is_memory = isinstance(error.__context__, MemoryError)
        return (Outcome.TOO_LARGE if is_memory else Outcome.DAMAGED), None
    image.close()
    return Outcome.OK, _shrunk(picture, request.max_side)


def _shrunk(picture: Image.Image, max_side: int) -> Image.Image:
    longest = max(picture.size)
    if not max_side or longest <= max_side or math.prod(picture.size) <= MAX_WHOLE_PIXELS:
        return picture
    width, height = (max(1, round(side * max_side / longest)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)


def _give_up_rights(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_STANDARD_STREAMS, _STANDARD_STREAMS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_cpu(cpu_s: int) -> None:
    """The limit counts from the start of the process, so each image moves it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(usage.ru_utime + usage.ru_stime) + cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _write(sink: BinaryIO, data: bytes) -> None:
    sink.write(data)
    sink.flush()


if __name__ == "__main__":
    main()
