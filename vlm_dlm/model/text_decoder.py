"""The Ministral-3 decoder: embeddings, pre-norm layers, final norm.

Query, key and value weights live in one matrix, gate and up in another: fewer and larger products.
`weights.py` maps the checkpoint's separate tensors onto the slices. Attention is handed in, so the
same layers serve training (dense masks) and the engine (packed rows over a cache). Leading dims of
every input are free: [T, D] in the engine, [B, T, D] in training.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.model.lora import AdapterRows, RowLora
from vlm_dlm.model.norm import RmsNorm
from vlm_dlm.model.rotary import (
    RotaryInputs,
    attention_factor,
    query_scale,
    rotary_tables,
    rotate,
    yarn_inverse_frequencies,
)

# (q [..., T, H, Dh], k [..., T, K, Dh], v [..., T, K, Dh]) -> [..., T, H, Dh]
LayerAttention = Callable[[Tensor, Tensor, Tensor], Tensor]
# The same with the layer's index in front, for attention that keeps something per layer.
Attention = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class SelfAttention(nn.Module):
    """Grouped-query attention with YaRN; the caller decides who sees whom."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.num_kv_heads = config.num_key_value_heads
        self.head_dim = config.head_dim
        rows = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
        self.qkv_proj = nn.Linear(config.hidden_size, rows, bias=False)
        self.o_proj = nn.Linear(self.num_heads * self.head_dim, config.hidden_size, bias=False)
        self.draft_lora: RowLora | None = None

    def forward(
        self, x: Tensor, rotary: RotaryInputs, attend: LayerAttention, adapter: AdapterRows | None
    ) -> Tensor:
        num_rotated = self.num_heads + self.num_kv_heads
        qkv = self.qkv_proj(x).unflatten(-1, (-1, self.head_dim))  # [..., T, H + 2K, Dh]
        qk = rotate(qkv[..., :num_rotated, :], rotary.cos, rotary.sin)  # [..., T, H + K, Dh]
        q, k = qk[..., : self.num_heads, :], qk[..., self.num_heads :, :]
        if rotary.query_scale is not None:
            q = q * rotary.query_scale
        out = attend(q, k, qkv[..., num_rotated:, :])  # [..., T, H, Dh]
        out = out.flatten(-2)  # [..., T, H * Dh]
        projected = self.o_proj(out)
        if adapter is not None and self.draft_lora is not None:
            projected = self.draft_lora(out, projected, adapter)
        return projected


class Mlp(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)  # 2 x [..., T, F]
        return self.down_proj(F.silu(gate) * up)


class DecoderLayer(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = SelfAttention(config)
        self.post_attention_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = Mlp(config)

    def forward(
        self,
        x: Tensor,
        rotary: RotaryInputs,
        attend: LayerAttention,
        adapter: AdapterRows | None = None,
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rotary, attend, adapter)
        return x + self.mlp(self.post_attention_layernorm(x))


class TextDecoder(nn.Module):
    """Tokens or embeddings to normed hidden states. Holds no cache and no vocabulary head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self._inverse_frequencies: Tensor | None = None

    def rotary_inputs(
        self, positions: Tensor, dtype: torch.dtype, max_position: int | None = None
    ) -> RotaryInputs:
        """Tables for `positions` [..., T]. `max_position`, when the caller knows it, saves the
        query scale for every forward below `original_max_position_embeddings`."""
        rope, table = self.config.rope, self._inverse_frequencies
        if table is None or table.device != positions.device:
            table = yarn_inverse_frequencies(rope, self.config.head_dim)
            table = self._inverse_frequencies = table.to(positions.device)
        cos, sin = rotary_tables(table, attention_factor(rope), positions, dtype)
        scale = None
        if max_position is None or max_position >= rope.original_max_position_embeddings:
            scale = query_scale(rope, positions)[..., None, None].to(dtype)  # [..., T, 1, 1]
        return RotaryInputs(cos, sin, scale)

    def forward(
        self,
        embeds: Tensor,
        rotary: RotaryInputs,
        attend: Attention,
        adapter: AdapterRows | None = None,
    ) -> Tensor:
        """embeds [..., T, D] -> normed hidden states [..., T, D]."""
        x = embeds
        for index, layer in enumerate(self.layers):
            x = layer(x, rotary, partial(attend, index), adapter)
        return self.norm(x)
