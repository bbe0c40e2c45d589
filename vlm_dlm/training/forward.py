"""One forward over packed rows [prefix | clean stream | noisy stream], compiled layer by layer.

The dense attention is written out: queries of each part meet only the keys that some of them may
see, and on the CPU bf16 products with an added mask are faster here than the fused kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vlm_dlm.model.rotary import RotaryInputs
from vlm_dlm.model.text_decoder import DecoderLayer
from vlm_dlm.model.vision import VisionEncoder
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.processor.tokenizer import IMAGE_IDS
from vlm_dlm.training import masks
from vlm_dlm.training.data import Batch

LayerForward = Callable[..., Tensor]


def layer_forward(
    layer: DecoderLayer,
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    prefix_bias: Tensor,
    stream_bias: Tensor,
) -> Tensor:
    """One decoder layer over packed rows x [B, T, D].

    prefix_bias [P, P]; stream_bias [B, C + N, T]; both are added to scores.
    """
    num_prefix = prefix_bias.shape[0]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        groups = q.shape[2] // k.shape[2]
        q = q.unflatten(2, (-1, groups)).permute(0, 2, 3, 1, 4)  # [B, K, G, T, Dh]
        k, v = (y.transpose(1, 2).unsqueeze(2) for y in (k, v))  # [B, K, 1, T, Dh]
        first = slice(0, num_prefix)
        prefix = _attend(q[..., first, :], k[..., first, :], v[..., first, :], prefix_bias)
        streams = _attend(q[..., num_prefix:, :], k, v, stream_bias[:, None, None])
        out = torch.cat((prefix, streams), dim=3)  # [B, K, G, T, Dh]
        return out.permute(0, 3, 1, 2, 4).flatten(2, 3)  # [B, T, H, Dh]

    return layer(x, RotaryInputs(cos, sin, None), attend)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """q [B, K, G, Q, Dh], k and v [B, K, 1, L, Dh] -> [B, K, G, Q, Dh]."""
    num_groups, num_queries = q.shape[2:4]
    q = q.flatten(2, 3) * q.shape[-1] ** -0.5  # [B, K, G * Q, Dh]
    scores = torch.matmul(q, k.squeeze(2).transpose(-1, -2))  # [B, K, G * Q, L]
    scores = scores.unflatten(2, (num_groups, num_queries)) + bias  # [B, K, G, Q, L]
    weights = scores.float().softmax(-1).to(v.dtype).flatten(2, 3)  # [B, K, G * Q, L]
    return torch.matmul(weights, v.squeeze(2)).unflatten(2, (num_groups, num_queries))


def compiled_layer_forward(is_compiled: bool) -> LayerForward:
    """`layer_forward`, compiled once per shape where a compiler is at hand."""
    if not is_compiled:
        return layer_forward
    import torch._dynamo as dynamo

    dynamo.config.recompile_limit = 64  # one entry per prefix bucket, with and without gradients
    compiled: Any = torch.compile(layer_forward, dynamic=False)
    return compiled


def compile_tower(vision: VisionEncoder) -> None:
    """Compile the tower's layers in place, for every image size at once."""
    tower: Any = vision.vision_tower
    for layer in tower.transformer.layers:
        layer.compile(dynamic=True)


def packed_hidden(
    model: VlmModel,
    batch: Batch,
    features: Tensor | None,
    run_layer: LayerForward,
    dtype: torch.dtype,
) -> Tensor:
    """Normed hidden states of both streams, [B, C + N, D].

    features: image features [B, h * w, D], if the prefix has an image. dtype: that of the products.
    """
    x = _embed_rows(model, batch, features)  # [B, T, D]
    num_prefix = len(batch["prefix_ids"])
    length = int(batch["prefix_length"])
    device = x.device
    prefix_positions = torch.arange(num_prefix, device=device).expand(len(x), -1)
    stream_positions = torch.cat((batch["clean_index"], batch["noisy_index"]), dim=1) + length
    positions = torch.cat((prefix_positions, stream_positions), dim=1)  # [B, T]
    rotary = model.decoder.rotary_inputs(positions, dtype, max_position=0)
    prefix_bias = masks.as_bias(masks.prefix_sees_prefix(length, num_prefix), dtype).to(device)
    stream_bias = masks.as_bias(_stream_mask(batch, num_prefix, length), dtype)
    for layer in model.decoder.layers:
        x = run_layer(layer, x, rotary.cos, rotary.sin, prefix_bias, stream_bias)
    return model.decoder.norm(x[:, num_prefix:])


def _stream_mask(batch: Batch, num_prefix: int, length: int) -> Tensor:
    prefix = masks.stream_sees_prefix(length, num_prefix).to(batch["clean_pair"].device)
    return masks.stream_mask(
        prefix,
        masks.clean_sees_clean(batch["clean_pair"], batch["clean_index"]),
        masks.noisy_sees_clean(
            batch["noisy_pair"], batch["noisy_start"], batch["clean_pair"], batch["clean_index"]
        ),
        masks.noisy_sees_noisy(batch["noisy_block"]),
    )


def _embed_rows(model: VlmModel, batch: Batch, features: Tensor | None) -> Tensor:
    """Token embeddings of the row with image features spliced into the prefix, [B, T, D]."""
    num_rows = len(batch["clean_ids"])
    prefix = model.embed(batch["prefix_ids"]).expand(num_rows, -1, -1)  # [B, P, D]
    if features is not None:
        is_image = batch["prefix_ids"] == IMAGE_IDS.pad  # [P]
        prefix = prefix.clone()
        prefix[:, is_image] = features.to(prefix.dtype)
    streams = model.embed(torch.cat((batch["clean_ids"], batch["noisy_ids"]), dim=1))
    return torch.cat((prefix, streams), dim=1)
