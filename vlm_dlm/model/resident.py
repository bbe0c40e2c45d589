"""The decoder as straight-line code for serving: the arithmetic of `text_decoder` without modules.

When one token runs at a time, calling modules and operators from Python costs more than the
arithmetic. Here a forward from token ids to logits is one TorchScript call where one request runs
alone and its rows see everything; the stack is one call where a mask or image features are needed,
or where several requests share a forward. It is for frozen weights on one device and rows without
the draft adapter; everything else (training, offloaded weights, adapters) runs the modules, which
the tests compare this with.
"""

# Without postponed annotations: TorchScript reads that of `_Stack.layers` as it stands.
import logging
import warnings
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlm_dlm.model.attention import Bounds, CachedAttention, attend_groups, attend_to
from vlm_dlm.model.linear import product
from vlm_dlm.model.lora import AdapterRows
from vlm_dlm.model.module_decoder import ModuleDecoder
from vlm_dlm.model.rotary import RotaryInputs
from vlm_dlm.model.text_decoder import TextDecoder
from vlm_dlm.model.vlm import VlmModel

log = logging.getLogger(__name__)


class ResidentDecoder(ModuleDecoder):
    """For plain weights on one device. Rows with the draft adapter go to the modules."""

    def __init__(self, model: VlmModel) -> None:
        super().__init__(model)
        self._embeddings = model.decoder.embed_tokens.weight.detach()
        self._head = model.diffusion_head.weight.detach()
        stack = _Stack(model.decoder, self._head)
        # On a GPU the kernels take the time, and TorchScript would fuse and round them differently.
        self._stack: Any = _scripted(stack) if stack.norm.device.type == "cpu" else stack

    def embed(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self._embeddings)

    def hidden(
        self,
        embeds: Tensor,
        rotary: RotaryInputs,
        attend: CachedAttention,
        adapter: AdapterRows | None = None,
    ) -> Tensor:
        if adapter is not None:
            return super().hidden(embeds, rotary, attend, adapter)
        if attend.views is not None:
            return self._stack.forward(embeds, rotary, *attend.views)
        return self._stack.packed(
            embeds,
            rotary,
            attend.data,
            attend.write_slots,
            attend.bounds,
            attend.slots,
            attend.masks,
        )

    def logits(self, hidden: Tensor) -> Tensor:
        return product(hidden, self._head)

    def logits_alone(
        self, ids: Tensor, tables: RotaryInputs, data: Tensor, first: int, num_cached: int
    ) -> Tensor:
        return self._stack.logits_alone(ids, tables, data, first, num_cached)


class LayerWeights(NamedTuple):
    """Of one layer, each [out, in]; F is the width of the MLP.

    attention_norm: [D], for `_rms_norm`.
    qkv: [(H + 2K) * Dh, D].
    out: [D, H * Dh].
    mlp_norm: [D], for `_rms_norm`.
    gate_up: [2F, D].
    down: [D, F].
    """

    attention_norm: Tensor
    qkv: Tensor
    out: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


class _Stack(nn.Module):
    """What TorchScript compiles. Matrices are shared with the decoder's modules; the norms of
    float32 weights are scaled copies, so the weights must be final."""

    layers: list[LayerWeights]

    def __init__(self, decoder: TextDecoder, head: Tensor) -> None:
        super().__init__()
        config = decoder.config
        self.embeddings = decoder.embed_tokens.weight.detach()
        self.head = head
        self.num_heads: int = config.num_attention_heads
        self.num_kv_heads: int = config.num_key_value_heads
        norm = decoder.norm.weight.detach()
        # Added in squares to the length of a vector, which is sqrt(D) * rms.
        self.eps = (norm.new_ones(()).float() * config.rms_norm_eps * config.hidden_size).sqrt()
        self.norm = _norm_weight(norm)
        self.layers = [_weights_of(layer) for layer in decoder.layers]

    def forward(
        self, x: Tensor, rotary: RotaryInputs, new_kv: Tensor, kv: Tensor, mask: Tensor | None
    ) -> Tensor:
        """All layers for one request alone. new_kv, kv and mask: see `attention.KvViews`."""
        for index in range(len(self.layers)):
            q, k, v = self.before_attention(index, x, rotary)
            new_kv[2 * index].copy_(k)
            new_kv[2 * index + 1].copy_(v)
            out = attend_to(q, kv[2 * index], kv[2 * index + 1], mask, x.shape[0])
            x = self.after_attention(index, x, out)
        return self.last_norm(x)

    @torch.jit.export
    def packed(
        self,
        x: Tensor,
        rotary: RotaryInputs,
        data: Tensor,
        write_slots: Tensor,
        bounds: list[Bounds],
        slots: list[Tensor | None],
        masks: list[Tensor | None],
    ) -> Tensor:
        """All layers for several requests. data and write_slots: see `CachedAttention`; bounds,
        slots and masks: see `attend_groups`."""
        for index in range(len(self.layers)):
            q, k, v = self.before_attention(index, x, rotary)
            keys, values = data[index].unbind()  # [num_slots, K, Dh]
            keys.index_copy_(0, write_slots, k)
            values.index_copy_(0, write_slots, v)
            out = attend_groups(q, keys, values, bounds, slots, masks)
            x = self.after_attention(index, x, out)
        return self.last_norm(x)

    @torch.jit.export
    def logits_alone(
        self, ids: Tensor, tables: RotaryInputs, data: Tensor, first: int, num_cached: int
    ) -> Tensor:
        """See `ModuleDecoder.logits_alone`."""
        cos, sin, query_scale = tables
        end = num_cached + ids.shape[0]
        if query_scale is not None:
            query_scale = query_scale[num_cached:end]
        here = RotaryInputs(cos[num_cached:end], sin[num_cached:end], query_scale)
        flat = data.flatten(0, 1)  # [2 * layers, num_slots, K, Dh]
        new_kv = flat[:, first + num_cached : first + end]
        kv = flat[:, first : first + end].unsqueeze(1).transpose(2, 3)
        x = self.forward(F.embedding(ids, self.embeddings), here, new_kv, kv, None)
        return product(x, self.head)

    @torch.jit.export
    def before_attention(
        self, index: int, x: Tensor, rotary: RotaryInputs
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x [T, D] to rotated queries [T, H, Dh], rotated keys and values [T, K, Dh]."""
        weights = self.layers[index]
        cos, sin, query_scale = rotary
        num_rotated = self.num_heads + self.num_kv_heads
        rows = product(_rms_norm(x, weights.attention_norm, self.eps), weights.qkv)
        rows = rows.view(x.shape[0], num_rotated + self.num_kv_heads, -1)
        qk, v = rows.split_with_sizes([num_rotated, self.num_kv_heads], 1)
        # Half-split rotation; the sine carries the sign, as in `rotary.rotate`.
        rotated = torch.addcmul(qk * cos, qk.roll(qk.shape[-1] // 2, -1), sin)
        q, k = rotated.split_with_sizes([self.num_heads, self.num_kv_heads], 1)
        if query_scale is not None:
            q = q * query_scale
        return q, k, v

    @torch.jit.export
    def after_attention(self, index: int, x: Tensor, attended: Tensor) -> Tensor:
        """Residual x [T, D] and what attention gave [T, H, Dh] to the layer's output [T, D]."""
        weights = self.layers[index]
        x = product(attended.flatten(1), weights.out).add_(x)
        normed = _rms_norm(x, weights.mlp_norm, self.eps)
        gate, up = product(normed, weights.gate_up).chunk(2, -1)  # [T, F]
        return product(F.silu(gate).mul_(up), weights.down).add_(x)

    @torch.jit.export
    def last_norm(self, x: Tensor) -> Tensor:
        """The norm after the last layer, [T, D] -> [T, D]."""
        return _rms_norm(x, self.norm, self.eps)


def _rms_norm(x: Tensor, weight: Tensor, eps: Tensor) -> Tensor:
    """As `text_decoder.RmsNorm`. In float32 four operations do what takes `F.rms_norm` nine."""
    wide = x.float()
    length = torch.hypot(torch.linalg.vector_norm(wide, 2, [-1], True), eps)  # [T, 1]
    if x.dtype == torch.float32:
        return (wide / length).mul_(weight)
    normed = wide / (length * x.shape[-1] ** -0.5)
    return normed.to(x.dtype) * weight


def _norm_weight(weight: Tensor) -> Tensor:
    """For `_rms_norm`: the sqrt(D) that its float32 branch leaves out."""
    return weight * weight.numel() ** 0.5 if weight.dtype == torch.float32 else weight


def _weights_of(layer: Any) -> LayerWeights:
    attention, mlp = layer.self_attn, layer.mlp
    return LayerWeights(
        attention_norm=_norm_weight(layer.input_layernorm.weight.detach()),
        qkv=attention.qkv_proj.weight.detach(),
        out=attention.o_proj.weight.detach(),
        mlp_norm=_norm_weight(layer.post_attention_layernorm.weight.detach()),
        gate_up=mlp.gate_up_proj.weight.detach(),
        down=mlp.down_proj.weight.detach(),
    )


def _scripted(stack: _Stack) -> Any:
    """The stack without the interpreter between its operations, or as it is where TorchScript is
    gone."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated, with no successor that starts as fast
            return torch.jit.script(stack)
    except Exception as error:
        log.warning("decoding runs slower, TorchScript is not to be had: %s", error)
        return stack
