"""Training samples: a scene, its degraded image, caption, questions and dense labels.

Deterministic: a sample depends on (seed, split, index) and on the fonts installed, nothing else.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from vlm_dlm.scenes.charts import MIN_CHART_SIDE, draw_chart, sample_chart_scene
from vlm_dlm.scenes.draw import draw_background, draw_object, sample_style
from vlm_dlm.scenes.labels import dense_labels, grid_of
from vlm_dlm.scenes.language import QA, caption, sample_questions
from vlm_dlm.scenes.scenes import (
    MIN_CAP_PX,
    Bar,
    Box,
    Scene,
    pick,
    sample_canvas,
    sample_object_scene,
)

SPLITS = ("train", "heldout")
_CHART_SHARE, _DENSE_CHART_SHARE = 0.5, 0.3  # of the scenes large enough for a chart
_NOISE_SIDE = 512
_FILTERS = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.HAMMING,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One training or evaluation example.

    image: RGB, the size of the scene.
    caption: canonical caption, a pure function of the scene.
    questions: short questions with their only right answers.
    labels: name -> int64 [h, w]; see `labels.dense_labels`.
    scene: what the image shows.
    num_cells: (h, w), the grid of image tokens.
    """

    image: Image.Image
    caption: str
    questions: tuple[QA, ...]
    labels: dict[str, np.ndarray]
    scene: Scene
    num_cells: tuple[int, int]


def sample_rng(index: int, split: str, seed: int = 0, purpose: str = "") -> np.random.Generator:
    """An independent random stream for one sample and purpose; splits never share a stream."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}, expected one of {SPLITS}")
    digest = hashlib.sha256(f"{seed}/{split}/{index}/{purpose}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def sample_scene(
    rng: np.random.Generator,
    max_side: int = 448,
    size: tuple[int, int] | None = None,
    is_dense: bool = False,
) -> Scene:
    """A random scene, objects or a chart, on a canvas of at most `max_side` pixels a side.

    `size` (height, width) fixes the canvas instead. Dense scenes are crowded, with fewer charts.
    """
    width, height = sample_canvas(rng, max_side) if size is None else (size[1], size[0])
    chart_share = _DENSE_CHART_SHARE if is_dense else _CHART_SHARE
    if min(width, height) >= MIN_CHART_SIDE and rng.random() < chart_share:
        return sample_chart_scene(rng, width, height)
    return sample_object_scene(rng, width, height, is_dense)


def make_sample(
    index: int,
    split: str,
    seed: int = 0,
    max_side: int = 448,
    num_questions: int = 8,
    size: tuple[int, int] | None = None,
    is_dense: bool = False,
    max_per_kind: int = 2,
) -> Sample:
    """The sample at `index` of a split, with at most `num_questions` questions.

    `size` (height, width) fixes the canvas, for batches that share a grid of image tokens;
    `is_dense` asks for a crowded scene, `max_per_kind` limits questions of one kind.
    """
    scene = sample_scene(sample_rng(index, split, seed, "scene"), max_side, size, is_dense)
    num_cells = grid_of(scene.width, scene.height)
    return Sample(
        image=render(scene, sample_rng(index, split, seed, "style")),
        caption=caption(scene),
        questions=sample_questions(
            scene, sample_rng(index, split, seed, "questions"), num_questions, max_per_kind
        ),
        labels=dense_labels(scene, num_cells),
        scene=scene,
        num_cells=num_cells,
    )


def render(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """Draw a scene in a random style and degrade it; RGB, the size of the scene."""
    factor = _sample_resolution(scene, rng)
    drawn = _scaled(scene, factor)
    image, backdrop = draw_background(rng, scene.background, (drawn.width, drawn.height))
    style = sample_style(rng)
    if drawn.chart is not None:
        draw_chart(image, drawn.chart, backdrop, style, rng)
    for item in drawn.objects:
        draw_object(image, item, backdrop, style, rng)
    if factor != 1.0:
        image = image.resize((scene.width, scene.height), pick(rng, _FILTERS))
    return degrade(image, rng, _smallest_detail(scene))


def encode_image(image: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """The image as real file bytes, half PNG (lossless) and half JPEG of good quality."""
    buffer = io.BytesIO()
    if rng.random() < 0.5:
        image.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue(), "png"
    image.save(buffer, "JPEG", quality=int(rng.integers(75, 96)))
    return buffer.getvalue(), "jpeg"


def degrade(image: Image.Image, rng: np.random.Generator, smallest_detail: float) -> Image.Image:
    """Mild blur, exposure change, noise and JPEG, each with moderate probability.

    Args:
        image: RGB.
        rng: source of every choice.
        smallest_detail: height of the smallest object in pixels; limits blur and compression.
    """
    is_fine = smallest_detail < 13
    if rng.random() < 0.15:
        image = image.filter(
            ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.6 + 0.4 * (not is_fine))))
        )
    if rng.random() < 0.25:
        image = _expose(image, float(rng.uniform(0.93, 1.06)), float(rng.uniform(-5, 5)))
    if rng.random() < 0.15:
        image = _add_noise(image, float(rng.uniform(1, 6)), rng)
    if rng.random() < 0.35:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(65 if is_fine else 40, 96)))
        image = Image.open(buffer)
        image.load()
    return image


def _expose(image: Image.Image, gain: float, shift: float) -> Image.Image:
    table = [min(255, max(0, round(gain * (value - 128) + 128 + shift))) for value in range(256)]
    return image.point(table * 3)


def _add_noise(image: Image.Image, sigma: float, rng: np.random.Generator) -> Image.Image:
    top, left = (int(value) for value in rng.integers(0, _NOISE_SIDE, 2))
    rows = (np.arange(image.height) + top) % _NOISE_SIDE
    columns = (np.arange(image.width) + left) % _NOISE_SIDE
    noise = _noise_tile()[rows[:, None], columns] * np.float32(sigma)  # [height, width, 3]
    pixels = np.asarray(image, dtype=np.float32) + noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@lru_cache(maxsize=1)
def _noise_tile() -> np.ndarray:
    """Standard normal noise float32 [side, side, 3], drawn once because drawing it is slow."""
    shape = (_NOISE_SIDE, _NOISE_SIDE, 3)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _smallest_detail(scene: Scene) -> float:
    if scene.chart is not None:
        return scene.chart.cap_height
    return min(item.box[3] - item.box[1] for item in scene.objects)


def _sample_resolution(scene: Scene, rng: np.random.Generator) -> float:
    """Scale at which to draw before resampling; small text is never drawn any smaller."""
    if rng.random() > 0.3:
        return 1.0
    lowest = min(1.0, max(0.6, MIN_CAP_PX / _smallest_detail(scene)))
    largest = 1.8 if max(scene.width, scene.height) < 300 else 1.3
    return float(rng.uniform(lowest, largest))


def _scaled(scene: Scene, factor: float) -> Scene:
    """The same scene on a canvas `factor` times as large."""
    if factor == 1.0:
        return scene
    width, height = round(scene.width * factor), round(scene.height * factor)

    def scale(box: Box) -> Box:
        x, y = width / scene.width, height / scene.height
        return (box[0] * x, box[1] * y, box[2] * x, box[3] * y)

    def scale_bar(bar: Bar) -> Bar:
        return replace(bar, box=scale(bar.box))

    objects = tuple(replace(item, box=scale(item.box)) for item in scene.objects)
    chart = scene.chart and replace(
        scene.chart,
        bars=tuple(scale_bar(bar) for bar in scene.chart.bars),
        plot=scale(scene.chart.plot),
        cap_height=scene.chart.cap_height * factor,
        title_box=scale(scene.chart.title_box),
    )
    return Scene(width, height, scene.background, objects, chart)
