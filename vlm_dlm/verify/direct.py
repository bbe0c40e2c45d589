"""One forward without engine, cache or mode: the plainest use of the weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.request import PromptInput


@torch.no_grad()
def direct_logits(
    model: VlmModel, pad_id: int | None, prompt: PromptInput, tail: Sequence[int], is_full: bool
) -> Tensor:
    """Logits [Q, V], float32 on the CPU, of the rows `tail` after a causal prompt.

    pad_id: image token that features replace. is_full: the rows of the tail see each other and the
    prompt; otherwise each sees what is before it.
    """
    num_prompt, num_tail = len(prompt.token_ids), len(tail)
    ids = torch.tensor([*prompt.token_ids, *tail], device=model.device)
    embeds = model.embed(ids)  # [T, D]
    features = [model.encode_images(_batch(image.pixels, model))[0] for image in prompt.images]
    if features:
        embeds[ids == pad_id] = torch.cat(features).to(embeds.dtype)
    total = num_prompt + num_tail
    visible = torch.ones(total, total, dtype=torch.bool, device=model.device).tril()
    if is_full:
        visible[num_prompt:, num_prompt:] = True
    rotary = model.decoder.rotary_inputs(torch.arange(total, device=model.device), model.dtype)
    hidden = model.hidden(embeds, rotary, _Dense(visible))[-num_tail:]
    return model.logits(hidden).float().cpu()


def _batch(pixels: Tensor, model: VlmModel) -> Tensor:
    return pixels.unsqueeze(0).to(model.device)


class _Dense:
    """Attention inside one forward. visible: bool [T, T]."""

    def __init__(self, visible: Tensor) -> None:
        self.visible = visible

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [T, H, Dh], k and v [T, K, Dh] -> [T, H, Dh]."""
        repeats = q.shape[1] // k.shape[1]
        heads = (q, k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1))
        q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in heads)  # [1, H, T, Dh]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.visible)
        return out[0].transpose(0, 1)
