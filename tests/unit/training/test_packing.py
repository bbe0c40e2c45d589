"""Packed rows: targets sit where they are predicted, blocks are full and start anywhere."""

from __future__ import annotations

import numpy as np
import pytest

from vlm_dlm.training.packing import (
    NO_TARGET,
    PackedRow,
    PairTokens,
    choose_pairs,
    pack_row,
)
from vlm_dlm.training.recipe import Recipe

MASK, END = 100, 11
RECIPE = Recipe(clean_tokens=96, noisy_tokens=128)
CAPTION = PairTokens((1, 2, 3), (*range(1000, 1050), END), is_caption=True)
QUESTION = PairTokens((4, 5), (2000, 2001, END))


def packed(seed: int, pairs: tuple[PairTokens, ...] = (CAPTION, QUESTION)) -> PackedRow:
    return pack_row(pairs, RECIPE, np.random.default_rng(seed))


def blocks_of(row: PackedRow) -> list[np.ndarray]:
    """Slots of every block."""
    numbers = np.unique(row.noisy_block[row.noisy_block >= 0])
    return [np.flatnonzero(row.noisy_block == number) for number in numbers]


def test_clean_stream_predicts_every_answer_token_from_the_one_before() -> None:
    row = packed(0)
    answers = row.next_target[row.next_target != NO_TARGET].tolist()
    assert answers == [*CAPTION.answer, *QUESTION.answer]
    at = np.flatnonzero(row.next_target != NO_TARGET)
    assert row.clean_ids[at[0]] == CAPTION.prompt[-1]
    inner = at[1 : len(CAPTION.answer)]
    assert row.clean_ids[inner].tolist() == list(CAPTION.answer[:-1])


def test_the_end_of_a_question_predicts_its_answer() -> None:
    question = PairTokens((4, 5, 6, 7, 8), (2000, 2001, 2002, END), num_tail=2)
    caption = PairTokens((4, 5, 6, 7, 8), (2000, 2001, 2002, END), is_caption=True, num_tail=2)
    short = PairTokens((4, 5, 6, 7, 8), (2000, END), num_tail=2)
    hinted = packed(0, (question,)).next_target[: len(question)].tolist()
    none = NO_TARGET
    assert hinted == [none, 2001, 2000, none, 2000, 2001, 2002, END, none]
    for pair in (caption, short):
        assert (packed(0, (pair,)).next_target[: len(pair.prompt) - 1] == none).all()


def test_clean_index_restarts_with_every_pair() -> None:
    row = packed(0)
    for number, pair in enumerate((CAPTION, QUESTION)):
        assert row.clean_index[row.clean_pair == number].tolist() == list(range(len(pair)))
    assert (row.clean_pair[len(CAPTION) + len(QUESTION) :] == -1).all()


@pytest.mark.parametrize("seed", range(20))
def test_masked_targets_are_the_tokens_at_their_own_place(seed: int) -> None:
    row = packed(seed)
    pairs = (CAPTION, QUESTION)
    for slot in np.flatnonzero(row.noisy_block >= 0):
        pair = pairs[row.noisy_pair[slot]]
        within = row.noisy_index[slot] - len(pair.prompt)
        answer = pair.answer[within] if within < len(pair.answer) else END
        if row.masked_target[slot] == NO_TARGET:
            assert row.noisy_ids[slot] == answer
            assert row.masked_weight[slot] == 0
        else:
            assert row.noisy_ids[slot] == MASK
            assert row.masked_target[slot] == answer
            is_padding = within >= len(pair.answer)
            assert row.masked_weight[slot] == pytest.approx(0.1 if is_padding else 1.0)


@pytest.mark.parametrize("seed", range(20))
def test_blocks_are_full_and_adjacent(seed: int) -> None:
    row = packed(seed)
    for slots in blocks_of(row):
        assert len(slots) in (8, 16, 32)
        assert (np.diff(row.noisy_index[slots]) == 1).all()
        assert (row.noisy_start[slots] == row.noisy_index[slots[0]]).all()
        assert (row.noisy_ids[slots] == MASK).any()


def test_every_kind_of_block_is_drawn() -> None:
    kinds, starts, sizes = set(), set(), set()
    for seed in range(200):
        row = packed(seed, (CAPTION,))
        for slots in blocks_of(row):
            is_masked = row.noisy_ids[slots] == MASK
            kinds.add((bool(is_masked[0]), bool(is_masked[1:].all())))
            starts.add(int(row.noisy_start[slots[0]]) - len(CAPTION.prompt))
            sizes.add(len(slots))
    assert {(False, True), (True, True), (True, False)} <= kinds
    assert starts == set(range(len(CAPTION.answer)))
    assert sizes == {8, 16, 32}


def test_pairs_that_do_not_fit_are_left_out() -> None:
    assert choose_pairs([CAPTION, CAPTION, QUESTION], 60) == [CAPTION, QUESTION]
