"""Batches: what a lesson holds, and that evaluation never sees one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from vlm_dlm.training import data
from vlm_dlm.training.data import JointDataset
from vlm_dlm.training.packing import PairTokens, choose_pairs
from vlm_dlm.training.recipe import Recipe
from vlm_dlm.training.tokenizer import build_tokenizer, training_texts

RECIPE = Recipe(lesson_steps=5, text_only_share=0.0, row_tokens=1500)


@pytest.fixture(scope="module")
def asked() -> dict[str, list[str]]:
    """Every prompt of the first batches: of lessons, of steps after them, held out."""
    tokenizer = build_tokenizer(training_texts(200, seed=0), 400)
    seen: dict[str, list[str]] = {"lesson": [], "later": [], "heldout": []}
    with pytest.MonkeyPatch.context() as patch:
        for name, split, first in (
            ("lesson", "train", 0),
            ("later", "train", 5),
            ("heldout", "heldout", 0),
        ):
            choose = _spy(seen[name], tokenizer.decode)
            patch.setattr(data, "choose_pairs", choose)
            dataset = JointDataset(RECIPE, 0, tokenizer, split)
            for step in range(first, first + 5):
                dataset[step]
    return seen


def _spy(
    found: list[str], decode: Callable[[Sequence[int]], str]
) -> Callable[[list[PairTokens], int], list[PairTokens]]:
    def choose(pairs: list[PairTokens], num_slots: int) -> list[PairTokens]:
        chosen = choose_pairs(pairs, num_slots)
        found.extend(decode(pair.prompt[: -pair.num_tail or None]) for pair in chosen)
        return chosen

    return choose


def test_lessons_ask_for_look_ups_only(asked: dict[str, list[str]]) -> None:
    assert len(asked["lesson"]) > 50
    assert not any("image." in text or "background" in text for text in asked["lesson"])
    assert any(text.endswith("bar?") for text in asked["lesson"])
    assert any(text.startswith("Where") for text in asked["lesson"])


@pytest.mark.parametrize("name", ["later", "heldout"])
def test_other_rows_hold_captions_and_every_kind(asked: dict[str, list[str]], name: str) -> None:
    assert any("image." in text for text in asked[name])
    assert any("background" in text for text in asked[name])


def test_a_batch_depends_on_its_step_only() -> None:
    tokenizer = build_tokenizer(training_texts(100, seed=0), 300)
    batches = [JointDataset(RECIPE, 0, tokenizer)[3] for _ in range(2)]
    assert all(np.array_equal(batches[0][key], batches[1][key]) for key in batches[0])
