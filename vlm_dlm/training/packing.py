"""Question-answer pairs to the two token streams of a packed row.

The clean stream holds whole pairs and carries the next-token loss. The noisy stream holds copies of
answer blocks with masks and carries the denoising loss, aligned: position i predicts token i. Which
blocks are copied and what they hide is what makes the decoding modes fast, so every block a draft
may meet is drawn here: any start, and mostly nothing known or only the first token known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlm_dlm.training.recipe import Recipe

NO_TARGET = -100
_MAX_LOOKS = 3
_SHORTEST_ANSWER = 3  # a word, a full stop and the end token
_BLOCKS = (8, 16, 32)
_CAPTION_BLOCKS = (0.2, 0.2, 0.6)
_LONG_ANSWER = 12  # tokens
_LONG_ANSWER_BLOCKS = (0.3, 0.4, 0.3)
_SHORT_ANSWER_BLOCKS = (0.5, 0.42, 0.08)
# Shares of: first token known, nothing known; the rest hides a random part.
_LARGE_BLOCK_MASKS = (0.40, 0.15)
_SMALL_BLOCK_MASKS = (0.25, 0.40)


@dataclass(frozen=True, slots=True)
class PairTokens:
    """Ids of one pair: everything after the image run, then the answer with its end token.

    num_tail: last tokens of the prompt that belong to the template and not to the question.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    is_caption: bool = False
    num_tail: int = 0

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, slots=True)
class PackedRow:
    """One row, int64 [C] for the clean and [N] for the noisy stream.

    clean_pair, noisy_pair: number of the pair in the row, -1 for padding.
    clean_index, noisy_index: place within the pair, which is also the position id after the prefix.
    next_target: the id that a clean token must predict, NO_TARGET elsewhere.
    noisy_start: first index of the block.
    noisy_block: a number of its own for every block, since one part of an answer may be hidden
        twice.
    masked_target: the id under a mask, NO_TARGET elsewhere.
    masked_weight: float32 [N], lower for what lies after the end token.
    """

    clean_ids: np.ndarray
    clean_pair: np.ndarray
    clean_index: np.ndarray
    next_target: np.ndarray
    noisy_ids: np.ndarray
    noisy_pair: np.ndarray
    noisy_index: np.ndarray
    noisy_start: np.ndarray
    noisy_block: np.ndarray
    masked_target: np.ndarray
    masked_weight: np.ndarray


def choose_pairs(candidates: Sequence[PairTokens], num_slots: int) -> list[PairTokens]:
    """The candidates, in order, that still fit into the clean stream."""
    chosen: list[PairTokens] = []
    free = num_slots
    for pair in candidates:
        if len(pair) <= free:
            chosen.append(pair)
            free -= len(pair)
    return chosen


def pack_row(
    pairs: Sequence[PairTokens],
    recipe: Recipe,
    rng: np.random.Generator,
    mask_id: int = 100,
    eos_id: int = 11,
) -> PackedRow:
    """Lay out `pairs`, which must fit, and draw the noisy blocks."""
    row = _empty_row(recipe, eos_id)
    at = 0
    for number, pair in enumerate(pairs):
        ids, first = np.array(pair.prompt + pair.answer), len(pair.prompt)
        place = slice(at, at + len(ids))
        row.clean_ids[place] = ids
        row.clean_pair[place] = number
        row.clean_index[place] = np.arange(len(ids))
        # The token before the answer predicts its first token.
        row.next_target[at + first - 1 : at + len(ids) - 1] = ids[first:]
        _add_hints(row, pair, at)
        at += len(ids)
    _fill_noisy(row, pairs, recipe, rng, mask_id, eos_id)
    return row


def _add_hints(row: PackedRow, pair: PairTokens, at: int) -> None:
    """The end of a question tells its answer: the last word predicts the answer's last, the mark
    after it the answer's first. Nothing decodes there, but looking up what a question names is
    learnt in one hop this way; by way of the template's tokens alone it stayed at chance."""
    mark = len(pair.prompt) - pair.num_tail - 1
    if pair.is_caption or not pair.num_tail or mark < 1 or len(pair.answer) < _SHORTEST_ANSWER:
        return
    row.next_target[at + mark - 1] = pair.answer[-_SHORTEST_ANSWER]
    row.next_target[at + mark] = pair.answer[0]


def _empty_row(recipe: Recipe, eos_id: int) -> PackedRow:
    clean, noisy = recipe.clean_tokens, recipe.noisy_tokens
    return PackedRow(
        clean_ids=np.full(clean, eos_id, np.int64),
        clean_pair=np.full(clean, -1, np.int64),
        clean_index=np.arange(clean),
        next_target=np.full(clean, NO_TARGET, np.int64),
        noisy_ids=np.full(noisy, eos_id, np.int64),
        noisy_pair=np.full(noisy, -1, np.int64),
        noisy_index=np.zeros(noisy, np.int64),
        noisy_start=np.zeros(noisy, np.int64),
        noisy_block=np.full(noisy, -1, np.int64),
        masked_target=np.full(noisy, NO_TARGET, np.int64),
        masked_weight=np.zeros(noisy, np.float32),
    )


def _fill_noisy(
    row: PackedRow,
    pairs: Sequence[PairTokens],
    recipe: Recipe,
    rng: np.random.Generator,
    mask_id: int,
    eos_id: int,
) -> None:
    """Blocks of every pair while slots are left; free slots take further looks at the pairs."""
    at = 0
    for number, pair in list(enumerate(pairs)) * _MAX_LOOKS:
        size = _block_size(pair, rng)
        for start in _block_starts(len(pair.answer), size, rng):
            if at + size > recipe.noisy_tokens:
                break
            place = slice(at, at + size)
            at += size
            within = start + np.arange(size)
            answer = _block_tokens(pair.answer, start, size, eos_id)
            is_hidden = _hidden(size, rng)
            weight = np.where(within >= len(pair.answer), recipe.padding_weight, 1.0)
            row.noisy_ids[place] = np.where(is_hidden, mask_id, answer)
            row.noisy_pair[place] = number
            row.noisy_index[place] = len(pair.prompt) + within
            row.noisy_start[place] = len(pair.prompt) + start
            row.noisy_block[place] = place.start
            row.masked_target[place] = np.where(is_hidden, answer, NO_TARGET)
            row.masked_weight[place] = np.where(is_hidden, weight, 0.0)


def _block_size(pair: PairTokens, rng: np.random.Generator) -> int:
    if pair.is_caption:
        shares = _CAPTION_BLOCKS
    else:
        shares = _LONG_ANSWER_BLOCKS if len(pair.answer) > _LONG_ANSWER else _SHORT_ANSWER_BLOCKS
    return int(rng.choice(_BLOCKS, p=shares))


def _block_starts(length: int, size: int, rng: np.random.Generator) -> list[int]:
    """Starts of adjacent blocks up to the end token, the first at 0 or at a random offset."""
    first = 0 if rng.random() < 0.5 else int(rng.integers(min(size, length)))
    return list(range(first, length, size))


def _block_tokens(answer: Sequence[int], start: int, size: int, eos_id: int) -> np.ndarray:
    """A full block: after the answer come end tokens, or masks would tell its length."""
    known = list(answer[start : start + size])
    return np.array(known + [eos_id] * (size - len(known)))


def _hidden(size: int, rng: np.random.Generator) -> np.ndarray:
    """Which tokens of a block are masked, bool [size]; at least one is."""
    first_known, nothing_known = _LARGE_BLOCK_MASKS if size >= 32 else _SMALL_BLOCK_MASKS
    kind = rng.random()
    is_hidden = np.ones(size, bool)
    if kind < first_known:
        is_hidden[0] = False
    elif kind >= first_known + nothing_known:
        is_hidden = rng.random(size) < rng.random()
        is_hidden[rng.integers(size)] = True
    return is_hidden
