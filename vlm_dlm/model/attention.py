"""Attention of the packed forward over the key/value cache. Training has its own, dense one.

Grouped queries are folded into the row dimension ([K, G * Q] rows against K key heads), so keys and
values are never repeated.
"""

# Without postponed annotations: TorchScript reads those of `Bounds` as they stand.
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_dlm.step import Visibility


class Bounds(NamedTuple):
    """Which rows a group has, and how many slots they read. Also compiled by TorchScript.

    start: first packed row of the group.
    end: packed row after its last one.
    num_rows: Q, rows of each request.
    first: slot from which on one request reads; meant for groups without `slots`.
    length: L, slots that each request reads.
    """

    start: int
    end: int
    num_rows: int
    first: int
    length: int


class RowGroup(NamedTuple):
    """Requests of one packed forward that are attended in one call.

    bounds: rows, and slots in numbers.
    slots: int64 [R * L], or None for one request whose slots are adjacent.
    mask: additive [R, 1, G * Q, L], or None when every row sees every slot.
    """

    bounds: Bounds
    slots: Tensor | None
    mask: Tensor | None


class KvViews(NamedTuple):
    """Where one request alone writes and reads, in all layers at once: keys and values of layer i
    are items 2i and 2i + 1.

    new_kv: [2 * layers, Q, K, Dh], the slots of the rows.
    kv: [2 * layers, 1, K, L, Dh], all that is cached, and the rows.
    mask: see `RowGroup`.
    """

    new_kv: Tensor
    kv: Tensor
    mask: Tensor | None


class CachedAttention:
    """Attention of one packed forward over the cache. Writes the new keys and values first.

    data: keys and values of all layers, [layers, 2, num_slots, K, Dh].
    write_slots: slice or int64 [T].
    groups: in the order of their rows.
    views: set where one group reads and writes adjacent slots, as one request alone does.
    """

    def __init__(
        self, data: Tensor, write_slots: slice | Tensor, groups: Sequence[RowGroup]
    ) -> None:
        self.data = data
        self.write_slots = write_slots
        # As lists side by side, which TorchScript takes as they are.
        self.bounds = [group.bounds for group in groups]
        self.slots = [group.slots for group in groups]
        self.masks = [group.mask for group in groups]
        self.views: KvViews | None = None
        bounds, slots, mask = groups[0]
        if len(groups) == 1 and slots is None and isinstance(write_slots, slice):
            flat = data.flatten(0, 1)  # [2 * layers, num_slots, K, Dh]
            kv = flat[:, None, bounds.first : bounds.first + bounds.length].transpose(2, 3)
            self.views = KvViews(flat[:, write_slots], kv, mask)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [T, H, Dh], k and v [T, K, Dh] -> [T, H, Dh]."""
        keys, values = self.data[layer].unbind()  # [num_slots, K, Dh]
        keys[self.write_slots] = k
        values[self.write_slots] = v
        return attend_groups(q, keys, values, self.bounds, self.slots, self.masks)


def attend_groups(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    bounds: list[Bounds],
    slots: list[Tensor | None],
    masks: list[Tensor | None],
) -> Tensor:
    """q [T, H, Dh], keys and values [num_slots, K, Dh] -> [T, H, Dh]. bounds, slots and masks: of
    every `RowGroup`. Also compiled by TorchScript."""
    outs: list[Tensor] = []
    for i in range(len(bounds)):
        start, end, num_rows, first, length = bounds[i]
        chosen, mask = slots[i], masks[i]
        if chosen is None:
            k = keys.narrow(0, first, length).unsqueeze(0)  # [1, L, K, Dh]
            v = values.narrow(0, first, length).unsqueeze(0)
        else:
            # Whole slots are copied at once here; `keys[chosen]` would go number by number.
            k = keys.index_select(0, chosen).unflatten(0, (-1, length))  # [R, L, K, Dh]
            v = values.index_select(0, chosen).unflatten(0, (-1, length))
        rows = q.narrow(0, start, end - start)
        outs.append(attend_to(rows, k.transpose(1, 2), v.transpose(1, 2), mask, num_rows))
    return outs[0] if len(outs) == 1 else torch.cat(outs)


def attend_to(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, num_rows: int) -> Tensor:
    """q [R * Q, H, Dh], k and v [R, K, L, Dh], Q = num_rows -> [R * Q, H, Dh]. Also compiled by
    TorchScript."""
    folded = _fold(q, num_rows, k.shape[1])
    out = F.scaled_dot_product_attention(folded, k, v, attn_mask=mask)
    return _unfold(out, num_rows)


def _fold(q: Tensor, num_rows: int, num_kv_heads: int) -> Tensor:
    """[R * Q, H, Dh] -> [R, K, G * Q, Dh]: the queries of one key head become its rows."""
    num_packed, num_heads, head_dim = q.shape
    repeats = num_heads // num_kv_heads
    if num_rows == 1:  # the same without moving anything
        return q.view(num_packed, num_kv_heads, repeats, head_dim)
    q = q.reshape(-1, num_rows, num_kv_heads, repeats, head_dim)  # [R, Q, K, G, Dh]
    return q.permute(0, 2, 3, 1, 4).flatten(2, 3)


def _unfold(out: Tensor, num_rows: int) -> Tensor:
    """[R, K, G * Q, Dh] -> [R * Q, H, Dh], the inverse of `_fold`."""
    if num_rows == 1:
        return out.flatten(1, 2)
    num_requests, num_kv_heads, num_folded, head_dim = out.shape
    out = out.view(num_requests, num_kv_heads, num_folded // num_rows, num_rows, head_dim)
    return out.permute(0, 3, 1, 2, 4).flatten(2, 3).flatten(0, 1)


def visibility_mask(
    visibility: Visibility | Tensor,
    cache_lens: Tensor,
    num_rows: int,
    length: int,
    repeats: int,
    *,
    dtype: torch.dtype,
) -> Tensor:
    """Additive mask [R, 1, G * Q, L] for requests that put Q rows of one visibility through.

    visibility: who sees whom among the Q rows.
    cache_lens: int64 [R]; slot l of request r holds a cached token below cache_lens[r], then its Q
        rows, then padding nobody sees.
    num_rows: Q.
    length: L.
    repeats: G, query heads per key head.
    """
    device = cache_lens.device
    row = torch.arange(length, device=device)[None, :] - cache_lens[:, None]  # [R, L]
    is_cached = (row < 0)[:, None, :]  # [R, 1, L]
    if isinstance(visibility, Tensor):
        is_row = ((row >= 0) & (row < num_rows))[:, None, :]  # [R, 1, L]
        index = row.clamp(0, num_rows - 1)  # [R, L]
        sees_row = visibility.to(device).T[index].transpose(1, 2)  # [R, Q, L]
        visible = is_cached | (is_row & sees_row)
    elif visibility is Visibility.CAUSAL:
        query = torch.arange(num_rows, device=device)[None, :, None]  # [1, Q, 1]
        visible = row[:, None, :] <= query
    else:
        visible = (row < num_rows)[:, None, :].expand(-1, num_rows, -1)
    mask = torch.zeros(visible.shape, dtype=dtype, device=device)
    mask = mask.masked_fill_(~visible, float("-inf"))  # [R, Q, L]
    return mask.repeat(1, repeats, 1).unsqueeze(1)  # rows of a key head: g * Q + q
