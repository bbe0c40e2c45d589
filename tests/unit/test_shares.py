"""What one client may have of what all share."""

from __future__ import annotations

from contextlib import suppress

from vlm_dlm.shares import Shares, share_of


def test_it_is_half_or_the_least_that_is_of_use() -> None:
    assert [share_of(whole) for whole in (0, 1, 2, 3, 9)] == [1, 1, 1, 1, 4]
    assert share_of(10, least=8) == 8
    assert share_of(1, least=0) == 0


def test_others_still_get_in() -> None:
    shares = Shares(4)
    for _ in range(2):
        assert not shares.is_over("a")
        shares.take("a")
    assert shares.is_over("a")
    assert not shares.is_over("b")
    assert not shares.is_full()
    shares.take("b", 2)
    assert shares.is_full()
    shares.give_back("b", 2)
    assert (shares.total, shares.of("a"), shares.of("b")) == (2, 2, 0)


def test_amounts_count_whole() -> None:
    shares = Shares(10)
    shares.take("a", 3)
    assert not shares.is_over("a", 2)
    assert shares.is_over("a", 3)
    assert not shares.is_full(7)
    assert shares.is_full(8)


def test_without_a_limit_nothing_is_too_much() -> None:
    shares = Shares(None)
    shares.take("a", 10**12)
    assert not shares.is_full()
    assert not shares.is_over("a")


def test_what_is_taken_is_given_back_by_whoever_fails() -> None:
    shares = Shares(1)
    with suppress(ValueError), shares.taken("a"):
        assert shares.is_full()
        raise ValueError
    assert shares.total == 0
