"""Picture to the pixel grid of the vision tower.

Owns the size rule, the resize and the normalisation (`docs/checkpoint.md`, image preprocessing).
Reading files is `image_input.py`. torch is imported only where a tensor is asked for.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vlm_dlm.errors import CheckpointError

if TYPE_CHECKING:
    import torch

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
CONFIG_FILE = "preprocessor_config.json"
_A = -0.75  # of the cubic
_Doubles = np.ndarray[Any, np.dtype[np.float64]]
_Floats = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Grid:
    """An image as `rows` x `columns` cells; one cell becomes one `<|image_pad|>` token.

    `cell` is the side of a cell in resized pixels: patch size times spatial merge.
    """

    rows: int
    columns: int
    cell: int = 28

    @property
    def num_pads(self) -> int:
        """Tokens that are replaced by image features."""
        return self.rows * self.columns

    @property
    def num_tokens(self) -> int:
        """Prompt tokens in all: start, pads, a break between rows, end."""
        return self.rows * (self.columns + 1) + 1

    @property
    def resized(self) -> tuple[int, int]:
        """(height, width) in pixels after the resize."""
        return self.rows * self.cell, self.columns * self.cell


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """Size rule, resize and normalisation. Defaults are the published constants."""

    max_image_size: int = 1400
    patch_size: int = 14
    merge_size: int = 2
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD

    @classmethod
    def from_folder(cls, folder: Path, patch_size: int = 14, merge_size: int = 2) -> Preprocessor:
        """Read `preprocessor_config.json` where the checkpoint has one, else use the defaults.

        Raises CheckpointError when the file is there but unusable.
        """
        path = folder / CONFIG_FILE
        if not path.exists():
            return cls(patch_size=patch_size, merge_size=merge_size)
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise CheckpointError(f"{path} does not describe an image preprocessor") from None
        return cls.from_settings(raw, patch_size, merge_size, str(path))

    @classmethod
    def from_settings(
        cls, raw: Any, patch_size: int, merge_size: int, name: str = CONFIG_FILE
    ) -> Preprocessor:
        """From the content of `preprocessor_config.json`. Raises CheckpointError, which says
        `name`, where that is unusable."""
        try:
            return cls(
                max_image_size=_max_size(raw),
                patch_size=patch_size,
                merge_size=merge_size,
                mean=_triple(raw.get("image_mean", MEAN)),
                std=_triple(raw.get("image_std", STD)),
            )
        except (ValueError, TypeError, AttributeError):
            raise CheckpointError(f"{name} does not describe an image preprocessor") from None

    @property
    def cell(self) -> int:
        """Side of one cell in resized pixels."""
        return self.patch_size * self.merge_size

    def grid(self, height: int, width: int) -> Grid:
        """Cells of a `height` x `width` pixel image. Shrinks to `max_image_size`, never enlarges.

        `round` is half-to-even on purpose: the reference uses it, and it decides the cell count.
        """
        ratio = max(height / self.max_image_size, width / self.max_image_size)
        if ratio > 1:
            height, width = round(height / ratio), round(width / ratio)
        # a very thin image can round to 0; it still covers one cell
        rows, columns = ((max(side, 1) - 1) // self.cell + 1 for side in (height, width))
        return Grid(rows, columns, self.cell)

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """What `array` gives, as a tensor on the CPU. Imports torch."""
        import torch

        return torch.from_numpy(self.array(image))

    def array(self, image: Image.Image) -> _Floats:
        """RGB image to normalised pixels, float32 `[3, cell * rows, cell * columns]`.

        One resize from the original: bicubic with A = -0.75, half-pixel centres, replicated border,
        no antialiasing, no clipping of overshoots. PIL's bicubic differs in all of these.
        """
        if image.mode != "RGB":
            raise ValueError(f"expected an RGB image, got mode {image.mode}")
        height, width = self.grid(image.height, image.width).resized
        out = np.empty((3, height, width), np.float32)
        for channel in range(3):  # one at a time: a large photo costs a third of the memory
            plane = np.asarray(image.getchannel(channel))
            scale = 1 / (255 * self.std[channel])
            shift = -self.mean[channel] / self.std[channel]
            if plane.shape == (height, width):  # the resize would change nothing
                levels = np.arange(256, dtype=np.float64) * scale + shift
                out[channel] = levels.astype(np.float32).take(plane)  # [h, w]
            else:
                np.multiply(_resize(plane, height, width), np.float32(scale), out=out[channel])
                out[channel] += np.float32(shift)
        return out

    def content_hash(self, image: Image.Image) -> str:
        """Hex digest of everything `pixels` depends on: pixels, shape, mode and settings."""
        digest = hashlib.sha256(repr((self, image.mode, image.size)).encode())
        digest.update(image.tobytes())
        return digest.hexdigest()


def _resize(plane: np.ndarray[Any, Any], height: int, width: int) -> _Floats:
    """One channel to float32 `[height, width]`, first along the columns, then along the rows."""
    tall = _resample(plane, height)  # [h, W]
    return _resample(np.ascontiguousarray(tall.T), width).T


def _resample(rows: np.ndarray[Any, Any], num_out: int) -> _Floats:
    """`[N, M]` to float32 `[num_out, M]`: each row out is four rows in, weighted.

    Buffers are used again and again: fresh memory costs more than the sums.
    """
    places, weights = _taps(len(rows), num_out)
    out = np.multiply(rows.take(places[0], axis=0), weights[0])
    part, taken = np.empty_like(out), np.empty(out.shape, rows.dtype)
    for place, weight in zip(places[1:], weights[1:], strict=True):
        rows.take(place, axis=0, out=taken, mode="clip")  # the other modes copy once more
        np.multiply(taken, weight, out=part)
        out += part
    return out


def _taps(num_in: int, num_out: int) -> tuple[np.ndarray[Any, Any], _Floats]:
    """The four samples `[4, num_out]` of each one out, and their weights `[4, num_out, 1]`.

    Positions are float64: float32 ones are off by a visible amount far from the origin.
    """
    positions = (np.arange(num_out) + 0.5) * (num_in / num_out) - 0.5
    before = np.floor(positions).astype(np.int64)
    places = before + np.arange(-1, 3)[:, None]
    weights = _cubic(np.abs(positions - places)).astype(np.float32)
    return places.clip(0, num_in - 1), weights[..., None]


def _cubic(distance: _Doubles) -> _Doubles:
    """Weight of a sample that is 0 to 2 samples away."""
    near = ((_A + 2) * distance - (_A + 3)) * distance * distance + 1
    far = ((_A * distance - 5 * _A) * distance + 8 * _A) * distance - 4 * _A
    return np.where(distance <= 1, near, far)


def _max_size(raw: dict[str, Any]) -> int:
    size = raw.get("size")
    longest = size.get("longest_edge") if isinstance(size, dict) else None
    value = raw.get("max_image_size", longest)
    if value is None:
        return Preprocessor().max_image_size
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("max_image_size is not a positive whole number")
    return value


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
