"""`self_spec_generate`: docs/decoding.md, section 5, in the document's own row order and mask."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.twins.chooser import Chooser
from tests.twins.forward import Forward, Mode, Outcome


def self_spec_generate(
    forward: Forward,
    prompt: list[int],
    max_new_tokens: int,
    *,
    block_length: int,
    mask: int,
    eos: int,
    chooser: Chooser,
    is_reference_start: bool = False,
    max_thinking_tokens: int | None = None,
    end_think: int | None = None,
) -> Outcome:
    """is_reference_start: draft inside the prefill and count a token once it is accepted, as the
    document does. Else as the product: the first iteration has one group, and the next round's d_0,
    which is accepted without a test, counts at once. Masks, drafts and acceptance are the same.
    """
    cache: list[int] = []
    out = Outcome([], nfe=1)
    if is_reference_start:
        drafts = _reference_start(forward, prompt, cache, block_length, mask, chooser)
    else:
        drafts = chooser.pick(forward(prompt, cache, Mode.C, write=True)[-1:])
        out.tokens = drafts[:1]
    accepted: list[int] = []
    while len(out.tokens) < max_new_tokens and eos not in out.tokens:
        out.nfe += 1  # 5.2
        heads, slots = _forward_groups(forward, drafts, cache, block_length, mask, chooser)
        num_accepted = 1
        while num_accepted < len(drafts) and heads[num_accepted - 1] == drafts[num_accepted]:
            num_accepted += 1
        out.acceptance.append(num_accepted)
        kept, drafts = drafts[:num_accepted], slots[num_accepted - 1]
        cache += kept
        accepted += kept
        if (  # section 6; a first draft that is the end token already needs no other
            max_thinking_tokens is not None
            and end_think is not None
            and len(accepted) > max_thinking_tokens
            and end_think not in [*accepted, drafts[0]]
        ):
            drafts = [end_think, *drafts[:-1]]
        out.tokens = list(accepted) if is_reference_start else [*accepted, drafts[0]]
    if eos in out.tokens:
        del out.tokens[out.tokens.index(eos) + 1 :]
    return out


def _reference_start(
    forward: Forward, prompt: list[int], cache: list[int], length: int, mask: int, chooser: Chooser
) -> list[int]:
    """5.1: one forward over [prompt | B masks], then the cache is cropped to the prompt."""
    total = len(prompt) + length
    visible = torch.ones(total, total, dtype=torch.bool).tril()
    visible[len(prompt) :] = True
    logits = forward.masked([*prompt, *[mask] * length], cache, range(total), visible)
    cache.extend(prompt)
    first = chooser.pick(logits[len(prompt) - 1 : len(prompt)])[0]
    return [first, *greedy(logits[len(prompt) + 1 :], mask)]


def _forward_groups(
    forward: Forward,
    drafts: list[int],
    cache: list[int],
    length: int,
    mask: int,
    chooser: Chooser,
) -> tuple[list[int], list[list[int]]]:
    """The head's choice of every group, and its slots 1..B with slot 1 replaced by that choice."""
    width = length + 1
    x = [token for draft in drafts for token in [draft, *[mask] * length]]
    positions = [len(cache) + i + j for i in range(len(drafts)) for j in range(width)]
    logits = forward.masked(x, cache, positions, group_mask(len(drafts), length))
    heads = chooser.pick(logits[::width])
    rest = greedy(logits, mask)
    slots = [[head, *rest[i * width + 2 : (i + 1) * width]] for i, head in enumerate(heads)]
    return heads, slots


def group_mask(num_groups: int, length: int) -> Tensor:
    """The table of 5.2, cell by cell: bool [G (B + 1), G (B + 1)]."""
    rows = [(i, j) for i in range(num_groups) for j in range(length + 1)]
    cells = []
    for i, j in rows:
        for key_i, key_j in rows:
            sees = key_i <= i if key_j == 0 else key_i == i and j >= 1
            cells.append(sees)
    return torch.tensor(cells).view(len(rows), len(rows))


def greedy(logits: Tensor, mask: int) -> list[int]:
    """Drafts never hold a mask; a draft that did could not be accepted."""
    return Chooser(banned=mask).pick(logits)
