"""Masks on a drawn example: rows are queries, columns are keys, x is visible."""

from __future__ import annotations

import torch
from torch import Tensor

from vlm_dlm.training import masks

# Pair 0 has tokens 0..3 and pair 1 has tokens 0..1 in the clean stream.
CLEAN_PAIR = torch.tensor([[0, 0, 0, 0, 1, 1]])
CLEAN_INDEX = torch.tensor([[0, 1, 2, 3, 0, 1]])
# Noisy: pair 0 at 2..3, the same place once more in a block of its own, pair 1 at 1..2.
NOISY_PAIR = torch.tensor([[0, 0, 0, 0, 1, 1]])
NOISY_START = torch.tensor([[2, 2, 2, 2, 1, 1]])
NOISY_BLOCK = torch.tensor([[0, 0, 2, 2, 4, 4]])


def drawn(*lines: str) -> Tensor:
    return torch.tensor([[cell == "x" for cell in line.replace(" ", "")] for line in lines])


def test_prefix_is_causal_and_padding_is_hidden() -> None:
    expected = drawn(
        "x....",
        "xx...",
        "xxx..",
        "xxxx.",  # padding sees itself, so that its softmax is defined
        "xxx.x",
    )
    seen = masks.prefix_sees_prefix(3, 5)
    assert torch.equal(seen, expected)


def test_streams_see_the_real_prefix() -> None:
    assert masks.stream_sees_prefix(3, 5).tolist() == [True, True, True, False, False]


def test_clean_is_causal_in_its_pair() -> None:
    expected = drawn(
        "x... ..",
        "xx.. ..",
        "xxx. ..",
        "xxxx ..",
        ".... x.",
        ".... xx",
    )
    assert torch.equal(masks.clean_sees_clean(CLEAN_PAIR, CLEAN_INDEX)[0], expected)


def test_noisy_sees_clean_before_its_block() -> None:
    expected = drawn(
        "xx.. ..",
        "xx.. ..",
        "xx.. ..",
        "xx.. ..",
        ".... x.",
        ".... x.",
    )
    seen = masks.noisy_sees_clean(NOISY_PAIR, NOISY_START, CLEAN_PAIR, CLEAN_INDEX)
    assert torch.equal(seen[0], expected)


def test_noisy_sees_its_own_block_only() -> None:
    expected = drawn(
        "xx.. ..",
        "xx.. ..",
        "..xx ..",
        "..xx ..",
        ".... xx",
        ".... xx",
    )
    assert torch.equal(masks.noisy_sees_noisy(NOISY_BLOCK)[0], expected)


def test_stream_mask_joins_the_parts() -> None:
    prefix = torch.tensor([True, False])
    clean_clean = drawn("x.", "xx")[None]
    noisy_clean = drawn("x.", "..")[None]
    noisy_noisy = drawn("xx", "xx")[None]
    expected = drawn(
        "x. x. ..",  # clean never sees noisy
        "x. xx ..",
        "x. x. xx",
        "x. .. xx",
    )
    seen = masks.stream_mask(prefix, clean_clean, noisy_clean, noisy_noisy)
    assert torch.equal(seen[0], expected)


def test_bias_hides_without_infinities() -> None:
    bias = masks.as_bias(drawn("x."), torch.bfloat16)
    assert bias[0, 0] == 0
    assert bias[0, 1] < -1e4
    assert torch.isfinite(bias).all()
