"""F(x, cache, mode, write) of docs/decoding.md, section 0: the forward that every twin runs on.

The cache of a twin is the plain list of the token ids in it. `DenseForward` recomputes the whole
model over all of them in every call, with one explicit mask and its own attention, so it shares
neither cache, nor packing, nor mask code with the engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor

from vlm_dlm.model.lora import AdapterRows
from vlm_dlm.model.vlm import VlmModel


class Mode(Enum):
    """C: causal inside x. D: everything inside x sees everything inside x."""

    C = "causal"
    D = "bidirectional"


@dataclass
class Outcome:
    """What a twin returns. nfe as the document counts it; acceptance: one entry per verify."""

    tokens: list[int]
    nfe: int
    acceptance: list[int] = field(default_factory=list)


class Forward(Protocol):
    """Rows x after the cache -> logits [len(x), V]."""

    def __call__(
        self,
        x: Sequence[int],
        cache: list[int],
        mode: Mode,
        write: bool = False,
        adapter: bool = False,
    ) -> Tensor: ...

    def masked(
        self, x: Sequence[int], cache: list[int], positions: Sequence[int], visible: Tensor
    ) -> Tensor:
        """The same with absolute positions and a mask bool [Q, Q] of one's own; nothing written."""
        ...


def square(size: int, mode: Mode) -> Tensor:
    """Who sees whom inside x: bool [size, size]."""
    visible = torch.ones(size, size, dtype=torch.bool)
    return visible.tril() if mode is Mode.C else visible


class DenseForward:
    """The real model, uncached. features [pads, D] fill the image tokens in order."""

    def __init__(
        self, model: VlmModel, features: Tensor | None = None, image_token_id: int | None = None
    ) -> None:
        self.model = model
        self.features = features
        self.image_token_id = image_token_id
        self.num_calls = 0

    def __call__(
        self,
        x: Sequence[int],
        cache: list[int],
        mode: Mode,
        write: bool = False,
        adapter: bool = False,
    ) -> Tensor:
        positions = range(len(cache), len(cache) + len(x))
        logits = self._run(x, cache, positions, square(len(x), mode), adapter)
        if write:
            cache.extend(x)
        return logits

    def masked(
        self, x: Sequence[int], cache: list[int], positions: Sequence[int], visible: Tensor
    ) -> Tensor:
        return self._run(x, cache, positions, visible, adapter=False)

    @torch.inference_mode()
    def _run(
        self,
        x: Sequence[int],
        cache: list[int],
        positions: Sequence[int],
        visible: Tensor,
        adapter: bool,
    ) -> Tensor:
        self.num_calls += 1
        num_cached, total = len(cache), len(cache) + len(x)
        sees = torch.zeros(total, total, dtype=torch.bool)
        sees[:num_cached, :num_cached] = square(num_cached, Mode.C)  # the cache is causal
        sees[num_cached:, :num_cached] = True  # every new row sees all of it
        sees[num_cached:, num_cached:] = visible
        where = torch.tensor([*range(num_cached), *positions])
        rotary = self.model.decoder.rotary_inputs(where, torch.float32)
        rows = AdapterRows(torch.arange(num_cached, total)) if adapter else None

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return plain_attention(q, k, v, sees)

        hidden = self.model.hidden(self._embed([*cache, *x]), rotary, attend, rows)
        return self.model.logits(hidden[num_cached:])  # [Q, V]

    def _embed(self, ids: list[int]) -> Tensor:
        embeds = self.model.embed(torch.tensor(ids)).clone()  # [T, D]
        if self.features is not None:
            pads = [i for i, token in enumerate(ids) if token == self.image_token_id]
            for pad, feature in zip(pads, self.features, strict=True):
                embeds[pad] = feature
        return embeds


def plain_attention(q: Tensor, k: Tensor, v: Tensor, sees: Tensor) -> Tensor:
    """q [T, H, Dh], k and v [T, K, Dh], sees bool [T, T] -> [T, H, Dh], one head after another."""
    groups = q.shape[1] // k.shape[1]
    heads = []
    for head in range(q.shape[1]):
        scores = q[:, head] @ k[:, head // groups].T / math.sqrt(q.shape[-1])  # [T, T]
        weights = scores.masked_fill(~sees, float("-inf")).softmax(-1)
        heads.append(weights @ v[:, head // groups])
    return torch.stack(heads, dim=1)
