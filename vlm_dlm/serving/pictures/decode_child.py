"""The child process that decodes untrusted images.

`python -m vlm_dlm.serving.pictures.decode_child`

Reads requests from its standard input and answers on its standard output, both as fixed binary
headers followed by as many bytes as they announce. Before the first request it gives up memory
beyond a limit, opening files or sockets, and writing to disk. It ends when its input does.
"""

from __future__ import annotations

import math
import os
import resource
import struct
import sys
from enum import IntEnum
from typing import BinaryIO, NamedTuple

# Imported now, because nothing can be opened later; each registers itself or is used by the others.
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageColor,
    ImageFile,
    ImagePalette,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from vlm_dlm.confinement import give_up_rights, limit_cpu, limit_memory, prefer_for_killing
from vlm_dlm.errors import ImageError, ImageFormatError
from vlm_dlm.processor.image_input import ImageLimits, open_image, upright_rgb

PRELOADED = (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageCms,
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


class Request(NamedTuple):
    """One picture to decode, followed by `num_bytes` of image data.

    width, height: what the header promised.
    max_side: as `upright_rgb` takes it.
    max_bytes: of address space for this picture.
    """

    num_bytes: int
    width: int
    height: int
    max_side: int
    apply_exif: bool
    max_bytes: int = 2**62


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
    UNSUPPORTED = 4


REQUEST = struct.Struct(">IIIIBQ")
REPLY = struct.Struct(">BII")


def main() -> None:
    """Arguments: address space in bytes, processor seconds for one image."""
    memory_bytes, cpu_s = (int(text) for text in sys.argv[1:3])
    Image.MAX_IMAGE_PIXELS = None  # the size is compared with the promise right after opening
    Image.preinit()
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each thread would cost address space
    prefer_for_killing()
    status = _address_status()
    give_up_rights(memory_bytes)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    _write(sink, READY)
    while header := source.read(REQUEST.size):
        request = Request(*REQUEST.unpack(header))
        limit_cpu(cpu_s)
        # what earlier pictures have left behind is not this one's
        limit_memory(_address_bytes(status) + request.max_bytes, memory_bytes)
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
        image = open_image(data, limits)
        if image.size != promised:
            return Outcome.CONTRADICTION, None
        with image:
            picture = upright_rgb(
                image,
                limits=limits,
                apply_exif=bool(request.apply_exif),
                data=data,
                max_side=request.max_side,
            )
    except ImageFormatError:
        return Outcome.UNSUPPORTED, None
    except ImageError as error:
        is_memory = isinstance(error.__context__, MemoryError)
        return (Outcome.TOO_LARGE if is_memory else Outcome.DAMAGED), None
    return Outcome.OK, picture


def _address_status() -> int | None:
    """A file that tells the address space of this process, open for good; some systems have
    none."""
    try:
        return os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        return None


def _address_bytes(status: int | None) -> int:
    """By now."""
    if status is None:
        return 2**28
    return int(os.pread(status, 64, 0).split()[0]) * resource.getpagesize()


def _write(sink: BinaryIO, data: bytes) -> None:
    sink.write(data)
    sink.flush()


if __name__ == "__main__":
    main()
