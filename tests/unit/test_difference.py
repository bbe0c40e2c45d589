"""Where an answer first differs from that of `ar`, and how near `ar` was to choosing otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from vlm_dlm.cli.comparison_view import difference_lines
from vlm_dlm.report import ModeResult, Report, compared_to_ar

MARGINS = (3.0, 2.0, 0.015625)


def result(mode: str, token_ids: tuple[int, ...]) -> ModeResult:
    figures: dict[str, Any] = dict.fromkeys(
        ("num_tokens", "num_forwards", "tokens_per_forward", "decode_s", "tokens_per_s"), 1
    )
    return ModeResult(
        mode,
        "",
        token_ids,
        **figures,
        ttft_s=None,
        finish_reason="stop",
        identical_to_ar=None,
        acceptance_lengths=None,
    )


@pytest.mark.parametrize(
    ("own", "index", "margin"),
    [
        ((1, 2, 3), None, None),
        ((1, 2, 4), 2, 0.015625),
        ((1, 2), 2, 0.015625),
        ((1, 2, 3, 4), 3, None),  # `ar` has no token there
        ((9, 2, 3), 0, 3.0),
    ],
)
def test_the_first_difference_has_its_margin(
    own: tuple[int, ...], index: int | None, margin: float | None
) -> None:
    results = compared_to_ar((result("ar", (1, 2, 3)), result("diffusion", own)), MARGINS)
    assert (results[1].first_difference, results[1].margin) == (index, margin)
    assert results[1].identical_to_ar is (index is None)
    lines = difference_lines(Report("m", "cpu", "bfloat16", 0, 1, 0.0, 0.0, results))
    if index is None:
        assert lines == []
    elif margin is None:
        assert lines == ["diffusion differs from ar at token 4."]
    else:
        assert lines == [
            f"diffusion differs from ar at token {index + 1}, "
            f"where ar's two best logits are {margin:.3g} apart."
        ]


def test_without_ar_nothing_is_said() -> None:
    results = compared_to_ar((result("diffusion", (1,)),), ())
    assert results[0].identical_to_ar is None
