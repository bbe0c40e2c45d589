"""Pearson's chi-square test without a statistics package."""

from __future__ import annotations

import torch
from torch import Tensor


def chi_square_p(counts: Tensor, expected: Tensor, pool_below: float = 8.0) -> float:
    """Probability of a fit at least this bad. Cells expected below `pool_below` are pooled.

    counts and expected: [cells], with equal sums. An impossible cell that occurred gives 0.
    """
    counts, expected = counts.double(), expected.double()
    if bool((counts[expected == 0] > 0).any()):
        return 0.0
    is_small = expected < pool_below
    counts = torch.cat((counts[~is_small], counts[is_small].sum()[None]))
    expected = torch.cat((expected[~is_small], expected[is_small].sum()[None]))
    is_real = expected > 0
    counts, expected = counts[is_real], expected[is_real]
    statistic = ((counts - expected) ** 2 / expected).sum()
    degrees = torch.tensor((len(counts) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(degrees, statistic / 2))
