"""The Pixtral tower: patches of one picture size to vectors that have seen each other.

Source: Hugging Face's description of `pixtral`, whose module names these are; a test holds the two
together. Pictures are kept apart by the batch dimension, so there is no mask over patches. Parts
are made in the order that weights drawn from a seed have always had.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlm_dlm.checkpoint.config import VisionConfig
from vlm_dlm.model.norm import RmsNorm
from vlm_dlm.model.rotary import rotate

NORM_EPS = 1e-5  # of all norms in the tower


class PixtralTower(nn.Module):
    """Patch embedding, norm, layers."""

    def __init__(self, vision: VisionConfig) -> None:
        super().__init__()
        self.config = vision
        self.patch_conv = nn.Conv2d(
            vision.num_channels,
            vision.hidden_size,
            kernel_size=vision.patch_size,
            stride=vision.patch_size,
            bias=False,
        )
        self.ln_pre = RmsNorm(vision.hidden_size, NORM_EPS)
        self.transformer = PixtralTransformer(vision)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [N, 3, rows * patch, columns * patch] -> [N, rows * columns, C]."""
        x = self.patch_conv(pixels.to(self.patch_conv.weight.dtype))  # [N, C, rows, columns]
        rows, columns = x.shape[-2:]
        x = self.ln_pre(x.flatten(2).transpose(1, 2))  # [N, P, C]
        cos, sin = axial_rotary_tables(self.config, rows, columns, x)
        for layer in self.transformer.layers:
            x = layer(x, cos, sin)
        return x


class PixtralTransformer(nn.Module):
    """The layers, under the name that checkpoints have for them."""

    def __init__(self, vision: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PixtralLayer(vision) for _ in range(vision.num_hidden_layers))


class PixtralLayer(nn.Module):
    """Pre-norm attention over all patches, then a gated MLP."""

    def __init__(self, vision: VisionConfig) -> None:
        super().__init__()
        self.attention_norm = RmsNorm(vision.hidden_size, NORM_EPS)
        self.feed_forward = PatchMlp(vision)
        self.attention = PatchAttention(vision)
        self.ffn_norm = RmsNorm(vision.hidden_size, NORM_EPS)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x [N, P, C] -> the same shape."""
        x = x + self.attention(self.attention_norm(x), cos, sin)
        return x + self.feed_forward(self.ffn_norm(x))


class PatchAttention(nn.Module):
    """Every patch sees every patch of its picture."""

    def __init__(self, vision: VisionConfig) -> None:
        super().__init__()
        self.head_dim = vision.head_dim
        width = vision.hidden_size
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.q_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x [N, P, C] -> the same shape."""
        heads = (-1, self.head_dim)
        q = rotate(self.q_proj(x).unflatten(-1, heads), cos, sin)  # [N, P, H, Dh]
        k = rotate(self.k_proj(x).unflatten(-1, heads), cos, sin)
        v = self.v_proj(x).unflatten(-1, heads)
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))  # [N, H, P, Dh]
        out = F.scaled_dot_product_attention(q, k, v)
        return self.o_proj(out.transpose(1, 2).flatten(2))


class PatchMlp(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, vision: VisionConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(vision.hidden_size, vision.intermediate_size, bias=False)
        self.up_proj = nn.Linear(vision.hidden_size, vision.intermediate_size, bias=False)
        self.down_proj = nn.Linear(vision.intermediate_size, vision.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def axial_rotary_tables(
    vision: VisionConfig, rows: int, columns: int, like: Tensor
) -> tuple[Tensor, Tensor]:
    """Tables for `rotate`: cos and signed sin, each [rows * columns, 1, head_dim], in the dtype and
    on the device of `like`. Even frequencies turn with the row, odd ones with the column."""
    exponents = torch.arange(0, vision.head_dim, 2, device=like.device).float() / vision.head_dim
    frequencies = 1.0 / vision.rope_theta**exponents  # [Dh / 2]
    row = torch.arange(rows, device=like.device).float()
    column = torch.arange(columns, device=like.device).float()
    by_row = torch.outer(row, frequencies[0::2])  # [rows, Dh / 4]
    by_column = torch.outer(column, frequencies[1::2])  # [columns, Dh / 4]
    angles = torch.cat(
        (by_row.repeat_interleave(columns, dim=0), by_column.repeat(rows, 1)), dim=-1
    )  # [rows * columns, Dh / 2]
    cos, sin = angles.cos().to(like.dtype), angles.sin().to(like.dtype)
    return torch.cat((cos, cos), -1).unsqueeze(-2), torch.cat((-sin, sin), -1).unsqueeze(-2)
