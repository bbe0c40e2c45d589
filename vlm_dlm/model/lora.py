"""The draft adapter: a low-rank correction of `o_proj` that only some rows of a batch receive."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class AdapterRows:
    """Which packed rows get the draft adapter.

    `rows` is int64 [N], or None when all rows of the forward get it (saves the gather).
    """

    rows: Tensor | None


class RowLora(nn.Module):
    """out + scale * B(A(x)) on the chosen rows. Never merged: a layer runs with and without."""

    def __init__(self, in_width: int, out_width: int, rank: int, scale: float) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(torch.zeros(rank, in_width))
        self.lora_B = nn.Parameter(torch.zeros(out_width, rank))
        self.scale = scale

    def forward(self, x: Tensor, out: Tensor, adapter: AdapterRows) -> Tensor:
        """x [T, in], out [T, out] -> [T, out]."""
        if adapter.rows is None:
            return out + self.scale * ((x @ self.lora_A.T) @ self.lora_B.T)
        delta = (x[adapter.rows] @ self.lora_A.T) @ self.lora_B.T  # [N, out]
        return out.index_add(0, adapter.rows, delta.to(out.dtype), alpha=self.scale)
