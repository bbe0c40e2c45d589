"""TIFF files of YCbCr and LAB: read, or named as what is not supported, never called damaged."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.corpus.images import encode, tiff
from tests.integration.serving.decode_harness import with_pool
from vlm_dlm.errors import ImageError, ImageFormatError
from vlm_dlm.processor.image_input import MAX_WHOLE_PIXELS, read_image
from vlm_dlm.serving.pictures.decode_pool import DecodePool

PACKINGS = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
WIDTH, HEIGHT = 64, 48
SIXTEEN_BITS = tiff(WIDTH, HEIGHT, 8, (16, 16, 16), bytes(WIDTH * HEIGHT * 6))


def scene() -> Image.Image:
    """Smooth, with colours that LAB and sRGB share."""
    across = Image.linear_gradient("L").resize((WIDTH, HEIGHT))
    down = across.rotate(180)
    half = Image.new("L", across.size, 128)
    return Image.merge("RGB", (across, down, half))


def as_lab(image: Image.Image) -> Image.Image:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    found = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
    assert found is not None
    return found


def decode(data: bytes, max_side: int | None = None) -> Image.Image:
    """By a child, as a server does."""

    async def use(pool: DecodePool) -> Image.Image:
        return await pool.decode(data)

    return with_pool(use, max_side=max_side)


def is_near(image: Image.Image, other: Image.Image, most: int) -> bool:
    return bool(np.abs(np.array(image).astype(int) - np.array(other)).max() <= most)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_its_colours_are_those_of_the_picture(mode: str, packing: str) -> None:
    base = scene()
    stored = as_lab(base) if mode == "LAB" else base.convert(mode)
    data = encode(stored, "TIFF", compression=packing)
    found = decode(data)
    assert found.tobytes() == read_image(data).tobytes()
    assert is_near(found, base, 24)  # 8 bits of LAB are coarse where it is dark


def test_neighbours_may_share_their_colours() -> None:
    """Two by two: four times Y, then what they share."""
    units = [
        bytes((10 * row, 10 * row, 10 * row, 10 * row, 128, 128))
        for row in range(HEIGHT // 2)
        for _ in range(WIDTH // 2)
    ]
    found = decode(tiff(WIDTH, HEIGHT, 6, (8, 8, 8), b"".join(units), (2, 2)))
    expected = np.repeat(np.arange(HEIGHT // 2) * 10, 2)
    assert np.abs(np.array(found)[:, 5, 1].astype(int) - expected).max() <= 1


def test_one_that_stands_on_its_side_is_turned() -> None:
    base = scene()
    options = Image.Exif()
    options[274] = 6
    found = decode(encode(base.convert("YCbCr"), "TIFF", exif=options))
    assert is_near(found, base.transpose(Image.Transpose.ROTATE_270), 2)


def test_the_largest_of_lab_take_no_longer_than_others() -> None:
    side = 5000
    assert side * side > MAX_WHOLE_PIXELS
    lab = as_lab(Image.new("RGB", (16, 16), (200, 40, 60))).resize((side, side))
    found = decode(encode(lab, "TIFF", compression="tiff_lzw"), max_side=500)
    assert found.size == (500, 500)
    assert is_near(found, Image.new("RGB", found.size, (200, 40, 60)), 4)


def test_what_is_not_supported_is_said() -> None:
    for use in (decode, read_image):
        with pytest.raises(
            ImageFormatError, match="TIFF whose way to store or pack its colours is not"
        ):
            use(SIXTEEN_BITS)


@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_what_is_cut_is_damaged(mode: str) -> None:
    base = scene()
    files = [encode(base.convert(mode) if mode == "YCbCr" else as_lab(base), "TIFF")]
    files.append(SIXTEEN_BITS)
    for data in (whole[: len(whole) // 2] for whole in files):
        for use in (decode, read_image):
            with pytest.raises(ImageError, match="the image is damaged or cut short") as caught:
                use(data)
            assert not isinstance(caught.value, ImageFormatError)


def test_a_directory_that_says_too_little_is_damaged() -> None:
    without_bits = SIXTEEN_BITS.replace(struct.pack("<HH", 258, 3), struct.pack("<HH", 999, 3))
    with pytest.raises(ImageError, match="damaged or cut short"):
        read_image(without_bits)
