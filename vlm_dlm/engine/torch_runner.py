"""Plans become packed tensors, one forward runs, logits go back to each request.

The only place where Python lists become tensors. Knows nothing of modes, queues or text.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import itemgetter

import torch
from torch import Tensor

from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.features import FeatureCache
from vlm_dlm.engine.kv_cache import KvCache
from vlm_dlm.engine.packing import grouped, row_group, write_slots
from vlm_dlm.engine.pages import PageTable
from vlm_dlm.engine.rows import PackedRows
from vlm_dlm.engine.runner import Runner
from vlm_dlm.model.attention import CachedAttention, RowGroup
from vlm_dlm.model.lora import AdapterRows
from vlm_dlm.model.module_decoder import ModuleDecoder
from vlm_dlm.model.resident import ResidentDecoder
from vlm_dlm.model.rotary import RotaryInputs
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.request import ImageInput
from vlm_dlm.step import Visibility


class TorchRunner(Runner):
    """Owns the cache tensors, the features and the tables that every forward needs."""

    def __init__(
        self, model: VlmModel, image_token_id: int | None, config: EngineConfig | None = None
    ) -> None:
        """Raises CapacityError where there is no memory for the cache."""
        config = config or EngineConfig()
        self.model = model
        self.num_slots = config.num_slots
        self.max_context = model.config.max_position_embeddings
        self.image_token_id = image_token_id
        self.cache = KvCache(model.config, self.num_slots, model.device, model.dtype)
        self.features = FeatureCache(model, config.num_kept_features)
        # Only the modules know how to use weights that are offloaded or quantized.
        is_plain = model.main_device is None and model.quantize is None
        self._decoder = ResidentDecoder(model) if is_plain else ModuleDecoder(model)
        self._rotary_table: RotaryInputs | None = None
        self._num_positions = 0

    @torch.inference_mode()
    def run(self, batch: Sequence[PackedRows]) -> list[Tensor]:
        if len(batch) == 1 and self._is_plain(batch[0]):
            return [self._run_alone(batch[0])]
        if len(batch) == 1:
            return self._run_packed(batch, [[0]])
        groups = grouped(batch, self.model.device)
        order = [i for members in groups for i in members]
        logits = self._run_packed([batch[i] for i in order], groups)
        return [x for _, x in sorted(zip(order, logits, strict=True), key=itemgetter(0))]

    def _run_packed(
        self, batch: Sequence[PackedRows], groups: Sequence[Sequence[int]]
    ) -> list[Tensor]:
        """As `run`, for requests in the order of their groups."""
        starts = [0, *accumulate(rows.num_rows for rows in batch)]
        embeds = self._embed(batch, starts)  # [T, D]
        attention = self._attention(batch, groups)
        rotary, adapter = self._rotary(batch), self._adapter(batch, starts)
        hidden = self._decoder.hidden(embeds, rotary, attention, adapter)  # [T, D]
        return self._logits(hidden, batch, starts)

    def encode(self, image: ImageInput) -> Tensor:
        return self.features.encode(image)

    def is_encoded(self, image: ImageInput) -> bool:
        return image in self.features

    def copy(self, source: PageTable, target: PageTable, num_tokens: int) -> None:
        self.cache.copy(source, target, num_tokens)

    def synchronize(self) -> None:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)

    def free_unused(self) -> None:
        self.features.clear()
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()

    def _is_plain(self, rows: PackedRows) -> bool:
        """Rows in a row that see each other and want logits, over adjacent slots: most of decoding
        with one request."""
        plan = rows.plan
        return (
            (plan.visibility is Visibility.FULL or rows.num_rows == 1)
            and rows.logit_rows == rows.num_rows
            and plan.offsets is None
            and rows.features is None
            and rows.table.is_contiguous
            and not (plan.use_draft_adapter and self.model.has_draft_adapter)
        )

    def _run_alone(self, rows: PackedRows) -> Tensor:
        """Logits [Q, V] of rows that `_is_plain` describes."""
        tables = self._positions_up_to(rows.length - 1)
        ids = torch.tensor(rows.plan.token_ids, device=self.model.device)
        return self._decoder.logits_alone(
            ids, tables, self.cache.data, rows.table.first_slot, rows.cache_len
        )

    def _embed(self, batch: Sequence[PackedRows], starts: Sequence[int]) -> Tensor:
        token_ids = [token for rows in batch for token in rows.plan.token_ids]
        ids = torch.tensor(token_ids, device=self.model.device)
        embeds = self._decoder.embed(ids)  # [T, D]
        for rows, start in zip(batch, starts, strict=False):
            if rows.features is not None:
                span = slice(start, start + rows.num_rows)
                is_pad = ids[span] == self.image_token_id
                embeds[span][is_pad] = rows.features.to(embeds.dtype)
        return embeds

    def _rotary(self, batch: Sequence[PackedRows]) -> RotaryInputs:
        offsets = [rows.plan.offsets or range(rows.num_rows) for rows in batch]
        pairs = list(zip(batch, offsets, strict=True))
        max_position = max(rows.cache_len + max(offset) for rows, offset in pairs)
        table = self._positions_up_to(max_position)
        index: slice | Tensor
        if len(batch) == 1 and batch[0].plan.offsets is None:
            start = batch[0].cache_len
            index = slice(start, start + batch[0].num_rows)
        else:
            positions = [rows.cache_len + o for rows, offset in pairs for o in offset]
            index = torch.tensor(positions, device=self.model.device)
        return table.at(index)

    def _positions_up_to(self, position: int) -> RotaryInputs:
        """Tables for every position seen so far, doubled when they run out; without the query scale
        where it is 1."""
        if self._rotary_table is None or position >= self._num_positions:
            self._num_positions = max(1024, 2 * position)
            positions = torch.arange(self._num_positions, device=self.model.device)
            self._rotary_table = self.model.decoder.rotary_inputs(positions, self.model.dtype)
        if position < self.model.config.rope.original_max_position_embeddings:
            return self._rotary_table._replace(query_scale=None)
        return self._rotary_table

    def _attention(
        self, batch: Sequence[PackedRows], groups: Sequence[Sequence[int]]
    ) -> CachedAttention:
        """groups: sizes of the groups tell the order of `batch`."""
        model, config = self.model, self.model.config
        repeats = config.num_attention_heads // config.num_key_value_heads
        row_groups: list[RowGroup] = []
        first, start = 0, 0
        for members in groups:
            chosen = batch[first : first + len(members)]
            row_groups.append(row_group(chosen, start, repeats, model.device, model.dtype))
            first, start = first + len(members), row_groups[-1].bounds.end
        return CachedAttention(self.cache.data, write_slots(batch, model.device), row_groups)

    def _adapter(self, batch: Sequence[PackedRows], starts: Sequence[int]) -> AdapterRows | None:
        chosen = [i for i, rows in enumerate(batch) if rows.plan.use_draft_adapter]
        if not chosen or not self.model.has_draft_adapter:
            return None
        if len(chosen) == len(batch):
            return AdapterRows(None)
        spans = [torch.arange(starts[i], starts[i + 1]) for i in chosen]
        return AdapterRows(torch.cat(spans).to(self.model.device))

    def _logits(
        self, hidden: Tensor, batch: Sequence[PackedRows], starts: Sequence[int]
    ) -> list[Tensor]:
        counts = [rows.logit_rows for rows in batch]
        if sum(counts) < hidden.shape[0]:
            ends = starts[1:]
            spans = [hidden[end - n : end] for end, n in zip(ends, counts, strict=True) if n]
            if not spans:
                return [hidden.new_empty(0, self.model.config.vocab_size) for _ in batch]
            hidden = torch.cat(spans)
        return list(self._decoder.logits(hidden).split(counts))
