"""The Mistral-3 projector: squares of patches to one vector of the decoder's width each.

Source: Hugging Face's description of `mistral3`, whose module names these are; a test holds the two
together.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vlm_dlm.checkpoint.config import ModelConfig, VisionConfig
from vlm_dlm.model.norm import RmsNorm


class Projector(nn.Module):
    """Norm, merging, two layers with a GELU between them."""

    def __init__(self, config: ModelConfig, vision: VisionConfig) -> None:
        super().__init__()
        self.norm = RmsNorm(vision.hidden_size, config.rms_norm_eps)
        self.patch_merger = PatchMerger(config.spatial_merge_size, vision.hidden_size)
        self.linear_1 = nn.Linear(vision.hidden_size, config.hidden_size, bias=False)
        self.linear_2 = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, rows: int, columns: int) -> Tensor:
        """x [N, rows * columns, C] -> [N, rows * columns / side ** 2, D], in raster order."""
        x = self.patch_merger(self.norm(x), rows, columns)
        return self.linear_2(F.gelu(self.linear_1(x)))


class PatchMerger(nn.Module):
    """A learned mean of `side` by `side` patches."""

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        self.side = side
        self.merging_layer = nn.Linear(width * side**2, width, bias=False)

    def forward(self, x: Tensor, rows: int, columns: int) -> Tensor:
        """x [N, rows * columns, C] -> [N, cells, C]. Within a cell, channels change slowest."""
        side = self.side
        grid = x.unflatten(1, (rows // side, side, columns // side, side))
        cells = grid.permute(0, 1, 3, 5, 2, 4)  # [N, rows / side, columns / side, C, side, side]
        return self.merging_layer(cells.flatten(3).flatten(1, 2))
