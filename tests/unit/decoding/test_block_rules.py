"""Which positions a step fills: block diffusion and the drafts of linear speculation, rule by rule.

Choices are made by hand, so that every case is one line of docs/decoding.md, section 2 or 3.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.twins.toy import EOS, MASK, TOY_IDS, update
from vlm_dlm.decoding.base import ModeRequest
from vlm_dlm.decoding.block_diffusion import BlockDiffusion, BlockDiffusionParams
from vlm_dlm.decoding.linear_speculation import LinearSpeculation, LinearSpeculationParams
from vlm_dlm.decoding.sampling import Picked
from vlm_dlm.request import SamplingParams
from vlm_dlm.step import Origin, Visibility

SEED = 7


def one_hot(token: int) -> Tensor:
    logits = torch.zeros(24)
    logits[token] = 9.0
    return logits


def picked(ids: list[int], confidences: list[float], dtype: torch.dtype = torch.float32) -> Picked:
    return Picked(ids, confidences, confidences, dtype)


def diffusion(seed: int = SEED, **options: Any) -> tuple[BlockDiffusion, Any]:
    mode = BlockDiffusion()
    params = BlockDiffusionParams(**{"block_length": 4, **options})
    request = ModeRequest(params, SamplingParams(), TOY_IDS)
    return mode, mode.start(request, one_hot(seed))[0]


def fill(confidences: list[float], dtype: torch.dtype = torch.float32, **options: Any) -> list[int]:
    """The canvas after one denoising forward over [seed, M, M, M] that predicts 1, 2, 3."""
    mode, state = diffusion(**options)
    result = mode.advance(state, picked([0, 1, 2, 3], [1.0, *confidences], dtype))
    assert result.num_kv_kept == 0
    assert result.committed == ()
    return list(result.canvas or ())


def test_positions_at_or_above_the_threshold_are_filled() -> None:
    assert fill([0.95, 0.5, 0.91]) == [SEED, 1, MASK, 3]


def test_the_best_position_is_always_filled() -> None:
    assert fill([0.1, 0.3, 0.2]) == [SEED, MASK, 2, MASK]


def test_a_share_is_filled_without_a_threshold() -> None:
    """Three masks in two steps: two, then one."""
    assert fill([0.2, 0.9, 0.8], threshold=None, steps=2) == [SEED, MASK, 2, 3]
    assert fill([0.2, 0.9, 0.8], threshold=None) == [SEED, MASK, 2, MASK]


def test_the_last_allowed_step_fills_everything_unless_exact() -> None:
    assert fill([0.1, 0.3, 0.2], steps=1) == [SEED, 1, 2, 3]
    assert fill([0.1, 0.3, 0.2], steps=1, is_exact_reference=True) == [SEED, MASK, 2, MASK]


def test_an_unseeded_block_begins_with_a_mask() -> None:
    assert fill([0.2, 0.1, 0.95], seed_first_token=False) == [0, MASK, MASK, 3]


@pytest.mark.parametrize(
    ("confidence", "dtype", "passes"),
    [
        (0.8984375, torch.bfloat16, True),  # 0.9 is this very number in bfloat16
        (0.89453125, torch.bfloat16, False),
        (0.8984375, torch.float32, False),
    ],
)
def test_the_threshold_is_compared_in_the_confidences_dtype(
    confidence: float, dtype: torch.dtype, passes: bool
) -> None:
    canvas = fill([0.95, confidence, 0.1], dtype)
    assert canvas == [SEED, 1, 2 if passes else MASK, MASK]


def test_native_confidence_decides_with_bfloat16_logits() -> None:
    """A row whose float32 confidence is below 0.9 and whose bfloat16 one rounds up to it."""
    rows = torch.zeros(4, 24, dtype=torch.bfloat16)
    rows[:, 1] = 5.28125  # against 22 other ids at zero
    rows[:, MASK] = float("-inf")
    rows[1, 1] = 9.0  # the best position is filled in any case
    wide = float(rows[2].float().softmax(-1)[1])
    native = float(rows[2].softmax(-1)[1])
    assert wide < 0.9
    assert native == 0.8984375
    for is_native, expected in ((True, [SEED, 1, 1, 1]), (False, [SEED, 1, MASK, MASK])):
        mode, state = diffusion(is_native_confidence=is_native)
        (result,) = update(mode, [state], [rows.clone()])
        assert list(result.canvas or ()) == expected


def test_a_block_is_done_once_no_mask_stands_before_its_end_token() -> None:
    mode, state = diffusion()
    mode.advance(state, picked([0, 1, EOS, 3], [1.0, 0.2, 0.95, 0.1]))
    assert mode.plan(state).visibility is Visibility.FULL  # a mask stands before it
    mode.advance(state, picked([0, 1, 2, 3], [1.0, 0.2, 0.2, 0.1]))
    plan = mode.plan(state)
    assert plan.visibility is Visibility.CAUSAL
    assert plan.token_ids == [SEED, 1, EOS, MASK]
    result = mode.advance(state, picked([5], [1.0]))
    assert [token.id for token in result.committed] == [SEED, 1, EOS]
    assert [token.step for token in result.committed] == [0, 2, 1]
    assert [token.origin for token in result.committed] == [Origin.AR, *[Origin.UNMASKED] * 2]
    assert result.num_kv_kept == 4


def test_an_end_token_as_seed_is_noticed_after_one_forward() -> None:
    mode, state = diffusion(seed=EOS)
    assert mode.plan(state).visibility is Visibility.FULL
    mode.advance(state, picked([0, 1, 2, 3], [1.0, 0.95, 0.1, 0.1]))
    result = mode.advance(state, picked([5], [1.0]))
    assert [token.id for token in result.committed] == [EOS]


def linear(threshold: float) -> tuple[LinearSpeculation, Any]:
    mode = LinearSpeculation()
    params = LinearSpeculationParams(block_length=4, threshold=threshold)
    request = ModeRequest(params, SamplingParams(), TOY_IDS)
    return mode, mode.start(request, one_hot(SEED))[0]


@pytest.mark.parametrize(
    ("threshold", "confidences", "expected"),
    [
        (0.0, [0.1, 0.1, 0.1], [1, 2, 3]),
        (0.5, [0.5, 0.1, 0.6], [1, MASK, 3]),
        (0.9, [0.1, 0.3, 0.2], [MASK, 2, MASK]),
        (1.0, [1.0, 0.3, 0.2], [1, MASK, MASK]),
    ],
)
def test_a_draft_fills_what_is_confident_and_always_the_best(
    threshold: float, confidences: list[float], expected: list[int]
) -> None:
    mode, state = linear(threshold)
    assert mode.plan(state).use_draft_adapter
    result = mode.advance(state, picked([0, 1, 2, 3], [1.0, *confidences]))
    assert list(result.canvas or ()) == expected
    is_verify = mode.plan(state).visibility is Visibility.CAUSAL
    assert is_verify == (MASK not in expected)
    assert mode.plan(state).use_draft_adapter != is_verify


@pytest.mark.parametrize(
    ("verified", "emitted", "origins"),
    [
        ([1, 2, 3, 8], [1, 2, 3, 8], "ddd+"),
        ([1, 2, 9, 8], [1, 2, 9], "dd!"),
        ([9, 2, 3, 8], [9], "!"),
    ],
)
def test_a_verify_step_emits_what_agrees_and_one_more(
    verified: list[int], emitted: list[int], origins: str
) -> None:
    mode, state = linear(0.0)
    mode.advance(state, picked([0, 1, 2, 3], [1.0] * 4))
    result = mode.advance(state, picked(verified, [1.0] * 4))
    names = {"d": Origin.DRAFTED, "+": Origin.BONUS, "!": Origin.CORRECTED}
    assert [token.id for token in result.committed] == emitted
    assert [token.origin for token in result.committed] == [names[o] for o in origins]
    assert result.num_kv_kept == result.acceptance_len == len(emitted)
    assert mode.plan(state).token_ids == [emitted[-1], MASK, MASK, MASK]
