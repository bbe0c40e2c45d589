"""What other programs show is shown here too: texts over a limit, files without their end."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tests.corpus.images import PNG_SIGNATURE, chunk, chunks_of, encode, noise, picture
from vlm_dlm.errors import ImageError
from vlm_dlm.processor.image_input import read_image, upright_rgb
from vlm_dlm.processor.image_mending import without_texts
from vlm_dlm.processor.rgb import to_rgb


def with_chunks(*chunks: bytes) -> bytes:
    head, *rest = chunks_of(picture())
    return PNG_SIGNATURE + b"".join((head, *chunks, *rest))


TEXT = zlib.compress(b"node " * 250_000, 9)


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"zTXt", b"workflow\0\0" + TEXT)],
        [chunk(b"iTXt", b"workflow\0\1\0\0\0" + TEXT)],
        [chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(1_200_000), 9))],
        [chunk(b"zTXt", b"Raw profile type exif\0\0" + TEXT)],
        [chunk(b"tEXt", b"workflow\0" + b"x" * 3_000_000)],
        [chunk(b"zTXt", b"k%d\0\0" % n + zlib.compress(bytes(10**6), 9)) for n in range(80)],
        [chunk(b"tEXt", b"broken", crc=1)],
    ],
)
def test_no_text_and_no_profile_makes_a_png_unreadable(chunks: list[bytes]) -> None:
    assert read_image(with_chunks(*chunks)).tobytes() == read_image(picture()).tobytes()


def test_an_orientation_in_a_text_still_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = exif.tobytes()
    body = f"\nexif\n{len(raw):8d}\n{raw.hex()}\n".encode()
    for kind, packed in ((b"tEXt", b"\0" + body), (b"zTXt", b"\0\0" + zlib.compress(body))):
        data = with_chunks(
            chunk(b"zTXt", b"w\0\0" + TEXT), chunk(kind, b"Raw profile type exif" + packed)
        )
        assert read_image(data).size == (48, 64)


def test_a_png_without_texts_is_left_alone() -> None:
    data = picture()
    assert without_texts(data) is data
    assert without_texts(data[:40]) == data[:40]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 95}])
@pytest.mark.parametrize("num_bytes", [1, 2])
@pytest.mark.parametrize("size", [(64, 48), (321, 243)])
def test_a_jpeg_needs_no_end_mark(
    options: dict[str, object], num_bytes: int, size: tuple[int, int]
) -> None:
    data = encode(noise(*size), "JPEG", **options)
    assert data.endswith(b"\xff\xd9")
    assert read_image(data[:-num_bytes]).tobytes() == read_image(data).tobytes()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}])
def test_a_jpeg_that_lacks_pixels_is_refused(options: dict[str, object]) -> None:
    data = encode(noise(320, 240), "JPEG", **options)
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        with pytest.raises(ImageError, match="damaged or cut short"):
            read_image(data[: int(len(data) * share)])


@pytest.mark.parametrize("share", [0.95, 0.98])
def test_a_shrunk_jpeg_that_lacks_pixels_is_refused(share: float) -> None:
    """There are fewer rows then, and each stands for more of those that are stored."""
    data = encode(
        Image.effect_noise((1000, 625), 60).resize((8000, 5000)).convert("RGB"), "JPEG", quality=60
    )
    with Image.open(BytesIO(data)) as whole:
        upright_rgb(whole, data=data, max_side=448)
    cut = data[: int(len(data) * share)]
    with Image.open(BytesIO(cut)) as image, pytest.raises(ImageError, match="cut short"):
        upright_rgb(image, data=cut, max_side=448)


def test_the_last_few_bytes_of_a_large_jpeg_may_be_missing() -> None:
    data = encode(noise(1024, 768), "JPEG")
    whole = np.asarray(read_image(data))
    cut = np.asarray(read_image(data[:-40]))
    assert (whole != cut).any(axis=2).mean() < 0.01


def test_what_is_after_the_end_of_a_jpeg_does_not_matter() -> None:
    data = encode(noise(64, 48), "JPEG")
    for rest in (b"\0" * 500, b"\r\n", data[:300]):
        assert read_image(data + rest).tobytes() == read_image(data).tobytes()


@pytest.mark.parametrize("num_bytes", [1, 4, 12, 13])
def test_a_png_needs_no_end_mark(num_bytes: int) -> None:
    assert read_image(picture()[:-num_bytes]).tobytes() == read_image(picture()).tobytes()


def grey_alpha() -> Image.Image:
    return noise(40, 30).convert("L").convert("LA")


MODES: dict[str, Callable[[], bytes]] = {
    "BMP of 1 bit": lambda: encode(noise(40, 30).convert("1"), "BMP"),
    "BMP of a palette": lambda: encode(noise(40, 30).convert("P"), "BMP"),
    "BMP with alpha": lambda: encode(noise(40, 30).convert("RGBA"), "BMP"),
    "TIFF, CMYK": lambda: encode(noise(40, 30).convert("CMYK"), "TIFF"),
    "TIFF, 16 bit": lambda: encode(Image.fromarray(np.full((30, 40), 32768, np.uint16)), "TIFF"),
    "TIFF, float": lambda: encode(Image.fromarray(np.full((30, 40), 0.5, np.float32)), "TIFF"),
    "TIFF, 1 bit, fax": lambda: encode(noise(40, 30).convert("1"), "TIFF", compression="group4"),
    "TIFF, LZW": lambda: encode(noise(40, 30), "TIFF", compression="tiff_lzw"),
    "TIFF, big endian": lambda: encode(Image.fromarray(np.full((30, 40), 9, ">u2")), "TIFF"),
    "AVIF with alpha": lambda: encode(noise(40, 30).convert("RGBA"), "AVIF"),
    "PNG, grey with alpha": lambda: encode(grey_alpha(), "PNG"),
    "JPEG, CMYK": lambda: encode(noise(40, 30).convert("CMYK"), "JPEG"),
}


@pytest.mark.parametrize("name", MODES)
def test_modes_of_all_formats_become_rgb(name: str) -> None:
    image = read_image(MODES[name]())
    assert (image.mode, image.size, image.info) == ("RGB", (40, 30), {})
    if name in ("TIFF, 16 bit", "TIFF, float"):
        assert image.getpixel((3, 3)) in ((127, 127, 127), (128, 128, 128))


def test_orientation_is_applied_once_in_every_format() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = Image.new("RGB", (30, 40), "blue")
    upright.paste("red", (0, 0, 30, 20))
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        image = read_image(encode(stored, kind, exif=exif))
        assert image.size == (30, 40), kind
        red, _, blue = image.resize((1, 1), box=(5, 2, 25, 10)).tobytes()
        assert red > 200 > 50 > blue, kind


def test_strips_change_nothing_and_shrinking_is_a_mean() -> None:
    image = noise(1500, 1499)
    assert to_rgb(image).tobytes() == image.tobytes()
    assert to_rgb(image, 3).tobytes() == image.reduce(3).tobytes()
    values = struct.pack("4B", 0, 255, 255, 0)
    assert to_rgb(Image.frombytes("L", (2, 2), values), 2).getpixel((0, 0)) == (128, 128, 128)
