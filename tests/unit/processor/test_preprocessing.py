"""The published size table, pixel parity with the reference resize, and the content hash."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlm_dlm.errors import CheckpointError
from vlm_dlm.processor.image import MEAN, STD, Grid, Preprocessor

TABLE = [
    # height, width, rows, columns, resized, pads, tokens
    (28, 28, 1, 1, (28, 28), 1, 3),
    (28, 56, 1, 2, (28, 56), 2, 4),
    (56, 28, 2, 1, (56, 28), 2, 5),
    (200, 300, 8, 11, (224, 308), 88, 97),
    (224, 224, 8, 8, (224, 224), 64, 73),
    (336, 336, 12, 12, (336, 336), 144, 157),
    (480, 640, 18, 23, (504, 644), 414, 433),
    (720, 1280, 26, 46, (728, 1288), 1196, 1223),
    (1080, 1920, 29, 50, (812, 1400), 1450, 1480),
    (1400, 1400, 50, 50, (1400, 1400), 2500, 2551),
    (1540, 1540, 50, 50, (1400, 1400), 2500, 2551),
    (2000, 3000, 34, 50, (952, 1400), 1700, 1735),
    (4032, 3024, 50, 38, (1400, 1064), 1900, 1951),
    (100, 5000, 1, 50, (28, 1400), 50, 52),
    # beyond the table: what the formula alone would round to nothing
    (1, 1, 1, 1, (28, 28), 1, 3),
    (16384, 1, 50, 1, (1400, 28), 50, 101),
]


@pytest.mark.parametrize(("height", "width", "rows", "columns", "resized", "pads", "tokens"), TABLE)
def test_size_table(
    height: int,
    width: int,
    rows: int,
    columns: int,
    resized: tuple[int, int],
    pads: int,
    tokens: int,
) -> None:
    grid = Preprocessor().grid(height, width)
    assert grid == Grid(rows, columns)
    assert (grid.resized, grid.num_pads, grid.num_tokens) == (resized, pads, tokens)


def test_the_cap_rounds_half_to_even() -> None:
    # 113 / 2 = 56.5: half to even gives 56, two cells; half up would give 57, three
    assert Preprocessor().grid(113, 2800).rows == 2


@pytest.mark.parametrize(
    ("height", "width"), [(37, 91), (200, 300), (1, 40), (60, 1), (900, 2100), (3, 4000)]
)
def test_pixels_match_opencv_cubic(height: int, width: int) -> None:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(height)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    preprocessor = Preprocessor()
    pixels = preprocessor.pixels(Image.fromarray(image)).numpy()
    rows, columns = preprocessor.grid(height, width).resized
    resized = cv2.resize(image.astype(np.float32), (columns, rows), interpolation=cv2.INTER_CUBIC)
    expected = ((resized / 255.0 - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1)
    assert pixels.dtype == np.float32
    assert pixels.shape == (3, rows, columns)
    # OpenCV's own sample positions are float32, which shows in the widest image
    assert np.abs(pixels - expected).max() < 1e-3


def test_an_image_of_full_cells_is_only_normalised() -> None:
    image = np.random.default_rng(0).integers(0, 256, (28, 56, 3), dtype=np.uint8)
    pixels = Preprocessor().pixels(Image.fromarray(image)).numpy()
    expected = (image / 255.0 - np.array(MEAN)) / np.array(STD)
    assert np.abs(pixels - expected.transpose(2, 0, 1)).max() < 1e-5


def test_pixels_need_rgb() -> None:
    with pytest.raises(ValueError, match="mode L"):
        Preprocessor().pixels(Image.new("L", (28, 28)))


def test_the_hash_sees_shape_pixels_and_settings() -> None:
    data = bytes(range(250)) * 36
    wide = Image.frombytes("RGB", (100, 30), data)
    images = [wide, Image.frombytes("RGB", (30, 100), data), wide.transpose(Image.Transpose(0))]
    preprocessor = Preprocessor()
    hashes = [preprocessor.content_hash(image) for image in images]
    hashes.append(Preprocessor(max_image_size=700).content_hash(wide))
    assert len(set(hashes)) == 4
    assert preprocessor.content_hash(wide.copy()) == hashes[0]


def test_settings_come_from_the_folder_or_the_publication(tmp_path: Path) -> None:
    assert Preprocessor.from_folder(tmp_path) == Preprocessor()
    path = tmp_path / "preprocessor_config.json"
    raw = {"image_mean": [0.5, 0.5, 0.5], "image_std": [1, 1, 1], "size": {"longest_edge": 224}}
    path.write_text(json.dumps(raw))
    read = Preprocessor.from_folder(tmp_path)
    assert (read.mean, read.std, read.max_image_size) == ((0.5,) * 3, (1.0,) * 3, 224)
    path.write_text(json.dumps({**raw, "max_image_size": 448}))
    assert Preprocessor.from_folder(tmp_path).max_image_size == 448
    for broken in ("[", "[]", '{"image_mean": [1, 2]}', '{"max_image_size": 0}'):
        path.write_text(broken)
        with pytest.raises(CheckpointError, match="preprocessor"):
            Preprocessor.from_folder(tmp_path)
