"""Who sees whom, each mask against a drawing. Rows are queries, columns keys, X is visible."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.twins.quadratic_speculation import group_mask
from vlm_dlm.decoding.quadratic_speculation import branch_offsets, branch_visibility
from vlm_dlm.model.attention import visibility_mask
from vlm_dlm.step import Visibility


def drawn(mask: Tensor) -> list[str]:
    """bool [Q, K] as a drawing."""
    return ["".join("X" if cell else "." for cell in row) for row in mask.tolist()]


def additive(
    seen: Visibility | Tensor, cache_lens: list[int], num_rows: int, length: int
) -> Tensor:
    """Visible cells, bool [R, Q, L], of the mask for two query heads per key head."""
    mask = visibility_mask(seen, torch.tensor(cache_lens), num_rows, length, 2, dtype=torch.float32)
    assert mask.shape == (len(cache_lens), 1, 2 * num_rows, length)
    assert set(mask.unique().tolist()) <= {0.0, float("-inf")}
    first, second = mask[:, 0].chunk(2, dim=1)
    assert torch.equal(first, second), "both query heads of a key head see the same"
    return first == 0


def test_two_branches_of_two_masks() -> None:
    """Heads 0 and 1, then slots 1 and 2 of branch 0, then those of branch 1."""
    assert drawn(branch_visibility(2, 2)) == [
        "X.....",
        "XX....",
        "X.XX..",
        "X.XX..",
        "XX..XX",
        "XX..XX",
    ]
    assert branch_offsets(2, 2) == (0, 1, 1, 2, 2, 3)


@pytest.mark.parametrize(("num_heads", "length"), [(1, 2), (1, 5), (2, 3), (4, 4), (5, 5)])
def test_branches_are_the_documents_groups_with_heads_first(num_heads: int, length: int) -> None:
    width = length + 1
    heads = [i * width for i in range(num_heads)]
    order = heads + [row for row in range(num_heads * width) if row not in heads]
    expected = group_mask(num_heads, length)[order][:, order]
    assert torch.equal(branch_visibility(num_heads, length), expected)
    positions = [i + j for i in range(num_heads) for j in range(width)]
    assert list(branch_offsets(num_heads, length)) == [positions[row] for row in order]


def test_causal_rows_after_caches_of_different_length() -> None:
    """Request 0 has three cached tokens, request 1 one; the end of its slots is padding."""
    first, second = additive(Visibility.CAUSAL, [3, 1], 3, 6)
    assert drawn(first) == ["XXXX..", "XXXXX.", "XXXXXX"]
    assert drawn(second) == ["XX....", "XXX...", "XXXX.."]


def test_full_rows_see_the_cache_and_each_other_but_no_padding() -> None:
    first, second = additive(Visibility.FULL, [3, 1], 3, 6)
    assert drawn(first) == ["XXXXXX"] * 3
    assert drawn(second) == ["XXXX.."] * 3


def test_a_mask_of_ones_own_stands_after_the_cache() -> None:
    seen = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    first, second = additive(seen, [3, 0], 3, 6)
    assert drawn(first) == ["XXXX..", "XXXXX.", "XXX..X"]
    assert drawn(second) == ["X.....", "XX....", "..X..."]


@pytest.mark.parametrize("visibility", [Visibility.CAUSAL, Visibility.FULL])
def test_the_two_named_visibilities_are_special_masks(visibility: Visibility) -> None:
    ones = torch.ones(4, 4, dtype=torch.bool)
    own = ones.tril() if visibility is Visibility.CAUSAL else ones
    cache_lens = [0, 5, 2]
    assert torch.equal(additive(visibility, cache_lens, 4, 9), additive(own, cache_lens, 4, 9))
