"""YaRN table and query scale against the published numbers (docs/checkpoint.md, section 3)."""

from __future__ import annotations

import pytest
import torch

from vlm_dlm.checkpoint.config import RopeConfig
from vlm_dlm.model.rotary import (
    attention_factor,
    query_scale,
    rotary_tables,
    rotate,
    yarn_inverse_frequencies,
)

INVERSE_FREQUENCIES = {
    0: 1.0,
    20: 0.01333521,
    21: 0.01015346,
    28: 0.001325179,
    36: 0.00004961135,
    37: 0.00002123880,
    63: 7.755861e-8,
}
QUERY_SCALES = {
    0: 1.0,
    16383: 1.0,
    16384: 1.069315,
    32767: 1.069315,
    32768: 1.109861,
    65536: 1.160944,
    262143: 1.277259,
}


@pytest.mark.parametrize(("pair", "value"), INVERSE_FREQUENCIES.items())
def test_inverse_frequency(pair: int, value: float) -> None:
    table = yarn_inverse_frequencies(RopeConfig(), 128)
    assert table.shape == (64,)
    assert table[pair].item() == pytest.approx(value, rel=1e-6)


def test_plain_frequencies_up_to_pair_20_and_a_sixteenth_from_37() -> None:
    table = yarn_inverse_frequencies(RopeConfig(), 128).double()
    plain = 1e6 ** (-torch.arange(64, dtype=torch.float64) / 64)
    torch.testing.assert_close(table[:21], plain[:21], rtol=1e-6, atol=0)
    torch.testing.assert_close(table[37:], plain[37:] / 16, rtol=1e-6, atol=0)


def test_cos_and_sin_are_not_scaled() -> None:
    """Equal mscale and mscale_all_dim cancel; the plain YaRN default would be 1.277."""
    assert attention_factor(RopeConfig()) == 1.0


@pytest.mark.parametrize(("position", "scale"), QUERY_SCALES.items())
def test_query_scale(position: int, scale: float) -> None:
    result = query_scale(RopeConfig(), torch.tensor([position]))
    assert result.dtype == torch.float32
    assert result.item() == pytest.approx(scale, abs=1e-6)


def test_rotation_couples_channel_i_with_i_plus_half() -> None:
    """One quarter turn of pair 1 of 2 moves channel 1 to 3 and channel 3 to minus 1."""
    quarter = torch.tensor([0.0, torch.pi / 2])
    cos, sin = rotary_tables(quarter, 1.0, torch.tensor([1]), torch.float32)
    rotated = rotate(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), cos, sin)
    torch.testing.assert_close(rotated, torch.tensor([[[1.0, -4.0, 3.0, 2.0]]]))
