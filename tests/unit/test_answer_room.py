"""How long an answer may be where nobody said so, and in which words it does not fit."""

from __future__ import annotations

import pytest

from vlm_dlm.answer_room import fit_answer
from vlm_dlm.errors import BadInputError
from vlm_dlm.request import SamplingParams


def test_min_tokens_raise_what_nobody_limited() -> None:
    assert fit_answer(SamplingParams(min_tokens=2000), 10, 4096).max_tokens == 2000


@pytest.mark.parametrize(("num_slots", "room"), [(None, 4086), (1033, 990)])
def test_min_tokens_above_the_room_name_only_what_was_sent(
    num_slots: int | None, room: int
) -> None:
    with pytest.raises(BadInputError) as caught:
        fit_answer(SamplingParams(min_tokens=4096), 10, 4096, num_slots, 33)
    assert str(caught.value) == (
        f"min_tokens is 4096; the prompt of 10 tokens leaves room for {room}"
    )
