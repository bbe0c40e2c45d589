"""What the page makes of an option, where the option says little and where it says much."""

from __future__ import annotations

from typing import Any

import pytest

from vlm_dlm.decoding.options import Control, ModeOption, option_table
from vlm_dlm_app.page.options import PAGE_OPTIONS, PageOption, given_options, page_option

OWN = ("wind_speed",)


def made(kind: Any, low: float = 0, high: float = 1, control: Control | None = None) -> PageOption:
    option = ModeOption("wind_speed", kind, "How it blows.", low, high, request_names=OWN)
    return page_option(option, control or Control())


def test_what_an_option_does_not_say_follows_from_the_rest() -> None:
    one = made(int, -3, 11)
    assert (one.label, one.short, one.info) == ("Wind speed", "wind speed", "How it blows")
    assert one.elem_id == "wind-speed"
    assert (one.rest, one.high, one.step) == (-4, 11, 1)
    assert one.sweep == one.sweep_first == (-3, 2, 6, 11)
    assert made(int, 0, 1).sweep == (0, 1)


def test_a_number_with_a_fraction_has_twenty_steps() -> None:
    one = made(float, 0.5, 2.5)
    assert (one.rest, one.high, one.step) == (0.4, 2.5, 0.1)
    assert one.sweep == (0.5, 1.167, 1.833, 2.5)
    assert [one.words(value) for value in one.sweep[:2]] == ["0.5", "1.167"]


def test_what_a_control_says_counts() -> None:
    control = Control("Wind", "w", "In knots", 40, 5, 0, (1, 2), (2,))
    one = made(int, 1, 90, control)
    assert (one.label, one.short, one.info) == ("Wind", "w", "In knots")
    assert (one.rest, one.high, one.step) == (0, 40, 5)
    assert (one.sweep, one.sweep_first) == ((1, 2), (2,))


def test_a_flag_is_on_off_or_left_to_the_mode() -> None:
    one = made(bool)
    assert (one.axis_label, made(int).axis_label) == ("Wind speed", "Wind speeds")
    assert [place for _, place in one.choices] == ["", "true", "false"]
    assert [one.given(place) for _, place in one.choices] == [None, True, False]
    assert [one.place(value) for value in one.sweep] == ["false", "true"]
    assert [one.read(one.words(value)) for value in one.sweep] == [False, True]
    assert one.is_value(True)
    assert not one.is_value(1)


def test_controls_that_rest_set_nothing() -> None:
    assert [option.name for option in PAGE_OPTIONS] == ["threshold", "block_length"]
    assert given_options([0, 0]) == {}
    assert given_options([0.0, 0.4]) == {}
    assert given_options([0.35, 8.0]) == {"threshold": 0.35, "block_length": 8}


@pytest.mark.parametrize("other", [Control("A"), None])
def test_modes_that_share_an_option_share_its_control(other: Control | None) -> None:
    shown = Control("B")
    several = [
        ModeOption("wind_speed", int, "How it blows.", control=control)
        for control in (other, shown)
    ]
    (joined,) = option_table([[one] for one in several]).values()
    assert joined.control == (other or shown)
