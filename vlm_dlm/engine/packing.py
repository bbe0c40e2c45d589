"""Rows of a forward: which are attended together, where each writes and reads.

Attention is one call per layer and group. A group shares the number of rows and who sees whom; its
shorter members are padded to the longest, so members of very different length are kept apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from vlm_dlm.engine.rows import PackedRows
from vlm_dlm.model.attention import Bounds, RowGroup, visibility_mask
from vlm_dlm.step import Pattern, Visibility

# Scores computed for padding that cost as much as one more group (measured on two CPU cores; on a
# GPU it is the launches that cost).
_CPU_WASTE = 512
_GPU_WASTE = 1 << 20


def grouped(batch: Sequence[PackedRows], device: torch.device) -> list[list[int]]:
    """Indices of the requests that are attended together; every index once."""
    kinds: dict[tuple[int, Visibility | Pattern], list[int]] = {}
    for i, rows in enumerate(batch):
        kinds.setdefault((rows.num_rows, rows.plan.visibility), []).append(i)
    max_waste = _CPU_WASTE if device.type == "cpu" else _GPU_WASTE
    return [group for members in kinds.values() for group in _by_length(batch, members, max_waste)]


def _by_length(batch: Sequence[PackedRows], members: list[int], max_waste: int) -> list[list[int]]:
    """Cut where padding the shorter ones would cost more than another group."""
    members.sort(key=lambda i: batch[i].length)
    groups = [members[:1]]
    waste, num_rows = 0, batch[members[0]].num_rows
    for before, i in pairwise(members):
        waste += len(groups[-1]) * num_rows * (batch[i].length - batch[before].length)
        if waste > max_waste:
            groups.append([])
            waste = 0
        groups[-1].append(i)
    return groups


def write_slots(batch: Sequence[PackedRows], device: torch.device) -> slice | Tensor:
    """Slots of all rows in their order, a slice for one request whose pages lie in a row."""
    if len(batch) == 1 and batch[0].table.is_contiguous:
        first = batch[0].table.first_slot
        return slice(first + batch[0].cache_len, first + batch[0].length)
    slots = [slot for rows in batch for slot in rows.table.slots_of(rows.cache_len, rows.length)]
    return torch.tensor(slots, device=device)


def row_group(
    chosen: Sequence[PackedRows], start: int, repeats: int, device: torch.device, dtype: torch.dtype
) -> RowGroup:
    """chosen: requests of one group, whose rows are packed from `start` on. repeats: query heads
    per key head."""
    num_rows, visibility = chosen[0].num_rows, chosen[0].plan.visibility
    length = max(rows.length for rows in chosen)
    end = start + len(chosen) * num_rows
    first, table = 0, chosen[0].table
    slots: Tensor | None = None
    if len(chosen) == 1 and table.is_contiguous:
        first = table.first_slot
    else:
        slots = _read_slots(chosen, length, device)
    is_padded = any(rows.length < length for rows in chosen)
    mask = None
    if is_padded or (visibility is not Visibility.FULL and num_rows > 1):
        cache_lens = torch.tensor([rows.cache_len for rows in chosen], device=device)
        sees = visibility.mask() if isinstance(visibility, Pattern) else visibility
        mask = visibility_mask(sees, cache_lens, num_rows, length, repeats, dtype=dtype)
    return RowGroup(Bounds(start, end, num_rows, first, length), slots, mask)


def _read_slots(chosen: Sequence[PackedRows], length: int, device: torch.device) -> Tensor:
    """Slots [R * L] of every request, padded with its last one: masked, but never unwritten."""
    if all(rows.table.is_contiguous for rows in chosen):
        firsts = torch.tensor([[rows.table.first_slot] for rows in chosen], device=device)
        lasts = torch.tensor([[rows.length - 1] for rows in chosen], device=device)
        return (torch.arange(length, device=device).minimum(lasts) + firsts).flatten()
    return torch.cat([_padded(rows, length, device) for rows in chosen])


def _padded(rows: PackedRows, length: int, device: torch.device) -> Tensor:
    own = rows.table.slots(device)[: rows.length]
    return torch.cat((own, own[-1:].expand(length - rows.length)))
