"""The advice given to those who are turned away."""

import pytest

from vlm_dlm.serving.queue.drain_rate import DrainRate


def test_unknown_rate_gives_the_shortest_wait() -> None:
    rate = DrainRate()
    assert rate.per_second(0.0) is None
    assert rate.retry_after_s(50, 0.0) == 1


@pytest.mark.parametrize(("num_ahead", "seconds"), [(0, 1), (1, 1), (4, 2), (64, 32), (500, 60)])
def test_wait_follows_the_measured_rate(num_ahead: int, seconds: int) -> None:
    rate = DrainRate()
    for half_second in range(21):
        rate.note_end(half_second * 0.5)
    assert rate.per_second(10.0) == pytest.approx(2.0)
    assert rate.retry_after_s(num_ahead, 10.0) == seconds


def test_the_slowest_rate_gives_the_longest_wait() -> None:
    """One end only, or none for a while: requests end seldom, which is not the same as unknown."""
    rate = DrainRate(window_s=10.0)
    rate.note_end(0.0)
    assert rate.retry_after_s(3, 5.0) == 15
    for second in range(1, 5):
        rate.note_end(float(second))
    assert rate.per_second(23.0) == pytest.approx(1 / 20)
    assert rate.retry_after_s(2, 23.0) == 40
    assert rate.retry_after_s(1, 1000.0) == 60
    rate.note_end(103.0)  # the only one within the window
    assert rate.per_second(104.0) == pytest.approx(1 / 100)
