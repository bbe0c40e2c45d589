"""Who sees whom in a packed training row [prefix | clean stream | noisy stream].

Every mask is a pure function of small integer tables and True means visible. Tables are [B, T]:
`pair` numbers the question-answer pairs of a row (-1 is padding), `index` is a token's place within
its pair, `start` the place at which the block of a noisy token begins, `block` that block's number.
"""

from __future__ import annotations

import torch
from torch import Tensor

HIDDEN = -30000.0  # finite: a softmax over a fully hidden row must not give NaN


def prefix_sees_prefix(num_valid: int, num_slots: int) -> Tensor:
    """Causal over the `num_valid` real tokens, bool [P, P]. Padding is seen by nobody else."""
    slot = torch.arange(num_slots)
    is_causal = slot[None, :] <= slot[:, None]  # [P, P]
    return is_causal & ((slot < num_valid)[None, :] | (slot[None, :] == slot[:, None]))


def stream_sees_prefix(num_valid: int, num_slots: int) -> Tensor:
    """Every clean and noisy token sees every real prefix token, bool [P]."""
    return torch.arange(num_slots) < num_valid


def clean_sees_clean(pair: Tensor, index: Tensor) -> Tensor:
    """Earlier tokens of the same pair and itself, bool [B, C, C]."""
    is_same_pair = pair[:, :, None] == pair[:, None, :]
    return is_same_pair & (index[:, None, :] <= index[:, :, None])


def noisy_sees_clean(
    noisy_pair: Tensor, start: Tensor, clean_pair: Tensor, clean_index: Tensor
) -> Tensor:
    """Tokens of the same pair before the own block, bool [B, N, C]."""
    is_same_pair = noisy_pair[:, :, None] == clean_pair[:, None, :]
    return is_same_pair & (clean_index[:, None, :] < start[:, :, None])


def noisy_sees_noisy(block: Tensor) -> Tensor:
    """All tokens of the own block, in both directions, bool [B, N, N]."""
    return block[:, :, None] == block[:, None, :]


def stream_mask(
    prefix: Tensor, clean_clean: Tensor, noisy_clean: Tensor, noisy_noisy: Tensor
) -> Tensor:
    """Rows of both streams against all keys, bool [B, C + N, P + C + N]. Clean never sees noisy."""
    num_rows, num_clean, _ = clean_clean.shape
    num_noisy = noisy_noisy.shape[1]
    never = torch.zeros(num_rows, num_clean, num_noisy, dtype=torch.bool, device=prefix.device)
    clean = torch.cat((clean_clean, never), dim=2)  # [B, C, C + N]
    noisy = torch.cat((noisy_clean, noisy_noisy), dim=2)  # [B, N, C + N]
    streams = torch.cat((clean, noisy), dim=1)  # [B, C + N, C + N]
    seen_prefix = prefix.expand(num_rows, num_clean + num_noisy, -1)  # [B, C + N, P]
    return torch.cat((seen_prefix, streams), dim=2)


def as_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What to add to attention scores: 0 where visible, a large negative number elsewhere."""
    return torch.where(mask, 0.0, HIDDEN).to(dtype)
