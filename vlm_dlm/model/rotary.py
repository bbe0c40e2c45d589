"""YaRN rotary embedding and the llama-4 query scale (docs/checkpoint.md, section 3)."""

# Without postponed annotations: TorchScript reads those of `RotaryInputs` as they stand.
import math
from typing import NamedTuple

import torch
from torch import Tensor

from vlm_dlm.checkpoint.config import RopeConfig


class RotaryInputs(NamedTuple):
    """What a forward needs to know about positions, computed once for all layers.

    cos: [..., T, 1, Dh], in the dtype of the activations.
    sin: the same, with the sign of rotate_half, see `rotary_tables`.
    query_scale: [..., T, 1, 1], or None where it is 1 for all.
    """

    cos: Tensor
    sin: Tensor
    query_scale: Tensor | None

    def at(self, positions: slice | Tensor) -> "RotaryInputs":
        """Of some of the T positions: a slice, or int64 [N]."""
        scale = None if self.query_scale is None else self.query_scale[positions]
        return RotaryInputs(self.cos[positions], self.sin[positions], scale)


def yarn_inverse_frequencies(rope: RopeConfig, head_dim: int) -> Tensor:
    """Inverse frequencies in float32, shape [head_dim / 2].

    High-frequency pairs stay as trained, low-frequency pairs are divided by `factor`, and a linear
    ramp joins the two (YaRN, Peng et al. 2023, with the checkpoint's truncated bounds).
    """
    half = head_dim // 2
    pairs = torch.arange(half, dtype=torch.float64)
    plain = rope.rope_theta ** (-2.0 * pairs / head_dim)  # [Dh/2]
    low = max(math.floor(_pair_with_turns(rope, head_dim, rope.beta_fast)), 0)
    high = min(math.ceil(_pair_with_turns(rope, head_dim, rope.beta_slow)), head_dim - 1)
    ramp = ((pairs - low) / max(high - low, 1e-3)).clamp(0.0, 1.0)  # [Dh/2]
    return (plain * (1.0 - ramp) + plain / rope.factor * ramp).float()


def _pair_with_turns(rope: RopeConfig, head_dim: int, turns: float) -> float:
    """Index of the pair that makes `turns` full turns over the original context."""
    length = rope.original_max_position_embeddings
    return head_dim * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(rope.rope_theta))


def attention_factor(rope: RopeConfig) -> float:
    """Factor on cos and sin: 1.0 whenever `mscale` equals `mscale_all_dim`."""

    def get_mscale(mscale: float) -> float:
        return 1.0 if rope.factor <= 1 else 0.1 * mscale * math.log(rope.factor) + 1.0

    return get_mscale(rope.mscale) / get_mscale(rope.mscale_all_dim)


def query_scale(rope: RopeConfig, positions: Tensor) -> Tensor:
    """Llama-4 style scale of the queries, float32, same shape as `positions`."""
    turns = torch.floor(positions.float() / rope.original_max_position_embeddings)
    return 1.0 + rope.llama_4_scaling_beta * torch.log1p(turns)


def rotary_tables(
    inverse_frequencies: Tensor, factor: float, positions: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Tables for `rotate`: cos and *signed* sin, each [..., T, 1, Dh] in `dtype`.

    The sign of rotate_half is folded into the sine, so that rotating is one roll and one fused
    multiply-add. Angles are computed in float32, as in the reference.
    """
    angles = positions.float().unsqueeze(-1) * inverse_frequencies  # [..., T, Dh/2]
    cos, sin = angles.cos() * factor, angles.sin() * factor
    cos = torch.cat((cos, cos), dim=-1).to(dtype).unsqueeze(-2)  # [..., T, 1, Dh]
    sin = torch.cat((-sin, sin), dim=-1).to(dtype).unsqueeze(-2)  # [..., T, 1, Dh]
    return cos, sin


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Half-split rotation of x [..., T, heads, Dh] with tables from `rotary_tables`."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin)
