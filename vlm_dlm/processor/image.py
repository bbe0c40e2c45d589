"""Picture to the pixel grid of the vision tower.

Owns the size rule, the resize and the normalisation (`docs/checkpoint.md`, image preprocessing).
Reading files is `image_input.py`. torch is imported only when pixels are made.
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
            return cls(
                max_image_size=_max_size(raw),
                patch_size=patch_size,
                merge_size=merge_size,
                mean=_triple(raw.get("image_mean", MEAN)),
                std=_triple(raw.get("image_std", STD)),
            )
        except (OSError, ValueError, TypeError, AttributeError):
            raise CheckpointError(f"{path} does not describe an image preprocessor") from None

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
        """RGB image to normalised pixels, float32 `[3, cell * rows, cell * columns]`, on the CPU.

        One resize from the original: bicubic with A = -0.75, half-pixel centres, replicated border,
        no antialiasing, no clipping of overshoots. PIL's bicubic differs in all of these.
        """
        import torch

        if image.mode != "RGB":
            raise ValueError(f"expected an RGB image, got mode {image.mode}")
        height, width = self.grid(image.height, image.width).resized
        out = torch.empty(3, height, width)
        for channel in range(3):  # one at a time: a large photo costs a third of the memory
            plane = _resize(image.getchannel(channel), height, width)
            out[channel] = (plane / 255.0 - self.mean[channel]) / self.std[channel]  # [h, w]
        return out

    def content_hash(self, image: Image.Image) -> str:
        """Hex digest of everything `pixels` depends on: pixels, shape, mode and settings."""
        digest = hashlib.sha256(repr((self, image.mode, image.size)).encode())
        digest.update(image.tobytes())
        return digest.hexdigest()


def _resize(channel: Image.Image, height: int, width: int) -> torch.Tensor:
    """One channel to float64 `[height, width]`.

    float64, because torch places its samples in the type of the data, and float32 positions are off
    by a visible amount far from the origin.
    """
    import torch
    from torch.nn.functional import interpolate

    plane = torch.from_numpy(np.array(channel, dtype=np.float64))
    resized = interpolate(
        plane[None, None],  # [1, 1, H, W]
        size=(height, width),
        mode="bicubic",
        align_corners=False,
        antialias=False,
    )
    return resized[0, 0]


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
