"""Untrusted images: every one becomes a plain RGB picture or a clear ImageError."""

from __future__ import annotations

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlm_dlm.errors import ImageError, ImageFormatError
from vlm_dlm.processor.image_input import ImageLimits, read_image


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels)[: 2 if channels == 1 else 3]
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def png_header(width: int, height: int, depth: int = 1) -> bytes:
    """A PNG that promises a size and holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + crc

    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "JPEG", "BMP", "TIFF", "AVIF"])
def test_allowed_formats_are_read(kind: str) -> None:
    image = read_image(encode(Image.new("RGB", (31, 17), "red"), kind))
    assert (image.mode, image.size) == ("RGB", (31, 17))
    assert np.abs(np.array(image).astype(int) - (255, 0, 0)).max() < 6


def test_a_path_and_its_bytes_give_the_same_picture(tmp_path: Path) -> None:
    data = encode(Image.fromarray(noise(20, 30)))
    path = tmp_path / "picture.jpg"  # the suffix lies and does not matter
    path.write_bytes(data)
    assert read_image(path).tobytes() == read_image(data).tobytes() == noise(20, 30).tobytes()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("width", "height", "said"),
    [
        (13000, 13000, "13000 x 13000"),
        (16385, 1, "16385 x 1"),
        (1, 60000, "1 x 60000"),
        (50000, 50000, "2500000000 pixels"),
        (6325, 6325, "6325 x 6325"),
    ],
)
def test_a_bomb_is_refused_from_its_header(width: int, height: int, said: str) -> None:
    with pytest.raises(ImageError, match=said) as caught:
        read_image(png_header(width, height))
    assert "40000000" in str(caught.value) or "16384" in str(caught.value)


def test_a_bomb_is_refused_where_warnings_are_errors(recwarn: pytest.WarningsRecorder) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match="169000000 pixels; the limit is 40000000"):
            read_image(png_header(13000, 13000))


def test_the_byte_limit_holds_for_files_and_bytes(tmp_path: Path) -> None:
    data = encode(Image.fromarray(noise(50, 50)))
    path = tmp_path / "big.png"
    path.write_bytes(data)
    limits = ImageLimits(max_bytes=len(data) - 1)
    for source in (path, data):
        with pytest.raises(ImageError, match=f"{len(data)} bytes; the limit is {len(data) - 1}"):
            read_image(source, limits)
    assert read_image(data, ImageLimits(max_bytes=len(data))).size == (50, 50)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_a_cut_file_is_refused(kind: str, share: float) -> None:
    data = encode(Image.fromarray(noise(64, 64)), kind)
    with pytest.raises(ImageError) as caught:
        read_image(data[: int(len(data) * share)])
    assert "0x" not in str(caught.value)


def test_random_damage_gives_a_picture_or_our_error() -> None:
    rng = np.random.default_rng(1)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"):
        original = np.frombuffer(encode(Image.fromarray(noise(40, 40)), kind), np.uint8)
        for _ in range(60):
            damaged = original.copy()
            damaged[rng.integers(0, len(damaged), 5)] = rng.integers(0, 256, 5)
            message = ""
            try:
                read_image(damaged.tobytes())
            except ImageError as error:
                message = str(error)
            assert "0x" not in message
            assert "/" not in message


KNOWN = "(JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF)"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"<html></html>", "a web page"),
        (b"\xef\xbb\xbf <!DOCTYPE HTML><p>", "a web page"),
        (b"<?xml version='1.0'?><svg/>", "SVG"),
        (b"%PDF-1.4", "a PDF file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp42", "a video"),
        (b"\0\0\1\0\1\0", "an icon file"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
    ],
)
def test_other_formats_are_named(data: bytes, said: str) -> None:
    with pytest.raises(ImageFormatError) as caught:
        read_image(data)
    assert str(caught.value) == f"the image is {said}, which is not a supported format {KNOWN}"


@pytest.mark.parametrize("data", [b"SIMPLE  =  T", b"\x00" * 100, b"x", b"P6 2 2 255 "])
def test_what_is_not_an_image_is_refused_by_a_fixed_sentence(data: bytes) -> None:
    with pytest.raises(ImageFormatError) as caught:
        read_image(data)
    assert str(caught.value) == f"the image is not in a supported format {KNOWN}"


def test_a_format_outside_the_list_is_refused() -> None:
    data = encode(Image.new("RGB", (16, 16)), "BMP")
    with pytest.raises(ImageFormatError, match="the image is BMP, which is not"):
        read_image(data, ImageLimits(formats=("JPEG", "PNG")))


def test_paths_that_are_no_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty.png").touch()
    for name, said in (
        (".", "folder"),
        ("none.png", "'none.png' does not exist"),
        ("pipe", "'pipe' is not a regular file"),
        ("empty.png", "'empty.png' is empty"),
        ("a\0b", "cannot be read"),
        ("x" * 5000, "cannot be read"),
    ):
        with pytest.raises(ImageError, match=said):
            read_image(tmp_path / name)


@pytest.mark.parametrize("orientation", range(10))
def test_orientation_is_applied_once_and_only_if_asked(orientation: int) -> None:
    upright = noise(5, 7)
    stored = {
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }.get(orientation, upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    image = read_image(data)
    assert (np.array(image) == upright).all()
    assert not image.getexif()
    assert (np.array(read_image(data, apply_exif=False)) == stored).all()


def test_broken_exif_is_ignored() -> None:
    data = encode(
        Image.fromarray(noise(5, 7)), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\xff" * 40
    )
    assert (np.array(read_image(data)) == noise(5, 7)).all()


def test_metadata_is_dropped() -> None:
    data = encode(Image.new("RGB", (8, 8)), "JPEG", comment=b"secret", dpi=(72, 72))
    assert read_image(data).info == {}


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited_on_white(mode: str) -> None:
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 128))
    row = np.array(read_image(encode(image.convert(mode))))[0, :, 0]
    assert row.tolist() == [255, 0, 127]


def test_palette_transparency_becomes_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        pixels = np.array(read_image(encode(image, kind, transparency=0)))[0]
        assert pixels.tolist() == [[255, 255, 255], [200, 100, 50]]


def test_plain_modes_become_rgb() -> None:
    grey = Image.fromarray(noise(6, 6, 1))
    assert (np.array(read_image(encode(grey)))[..., 2] == noise(6, 6, 1)).all()
    bits = np.array(read_image(encode(grey.convert("1"))))
    assert set(np.unique(bits)) <= {0, 255}
    cmyk = np.array(read_image(encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")))
    assert np.abs(cmyk.astype(int) - (255, 0, 0)).max() < 6


def test_sixteen_bit_grey_keeps_its_range() -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    pixels = np.array(read_image(encode(Image.fromarray(values))))[0, :, 0]
    assert pixels.tolist() == [0, 0, 1, 128, 255]


def test_only_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (9, 9), color) for color in ("red", "blue", "lime")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        assert read_image(data).getpixel((4, 4)) == (255, 0, 0)
