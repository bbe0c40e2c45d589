"""The text side of the network as the engine asks for it, run by the modules themselves."""

from __future__ import annotations

from torch import Tensor

from vlm_dlm.model.attention import Bounds, CachedAttention, RowGroup
from vlm_dlm.model.lora import AdapterRows
from vlm_dlm.model.rotary import RotaryInputs
from vlm_dlm.model.vlm import VlmModel


class ModuleDecoder:
    """Works wherever the weights are, plain or quantized. `ResidentDecoder` is the fast one."""

    def __init__(self, model: VlmModel) -> None:
        self.model = model

    def embed(self, ids: Tensor) -> Tensor:
        """ids int64 [T] -> [T, D]."""
        return self.model.embed(ids)

    def hidden(
        self,
        embeds: Tensor,
        rotary: RotaryInputs,
        attend: CachedAttention,
        adapter: AdapterRows | None = None,
    ) -> Tensor:
        """embeds [T, D] -> normed hidden states [T, D]; keys and values go into the cache."""
        return self.model.hidden(embeds, rotary, attend, adapter)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [N, D] -> [N, V]."""
        return self.model.logits(hidden)

    def logits_alone(
        self, ids: Tensor, tables: RotaryInputs, data: Tensor, first: int, num_cached: int
    ) -> Tensor:
        """Logits [Q, V] of one request whose Q rows see each other and all that is cached.

        ids: int64 [Q].
        tables: of every position.
        data: the cache, [layers, 2, num_slots, K, Dh].
        first: slot from which on the request owns a row of slots.
        num_cached: how many of those are filled.
        """
        num_rows, end = len(ids), num_cached + len(ids)
        bounds = Bounds(start=0, end=num_rows, num_rows=num_rows, first=first, length=end)
        group = RowGroup(bounds, slots=None, mask=None)
        attend = CachedAttention(data, slice(first + num_cached, first + end), [group])
        return self.logits(self.hidden(self.embed(ids), tables.at(slice(num_cached, end)), attend))
