"""Attention inside one forward without a cache, which the packed path is compared with."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


class DenseAttention:
    """Attention inside one forward, no cache. `mask` is bool [B or 1, T, T], True = visible."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask.unsqueeze(1)  # [B, 1, T, T]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        groups = q.shape[-2] // k.shape[-2]
        q, k, v = (x.transpose(-3, -2) for x in (q, k, v))  # [B, heads, T, Dh]
        k, v = k.repeat_interleave(groups, -3), v.repeat_interleave(groups, -3)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)
        return out.transpose(-3, -2)  # [B, T, H, Dh]
