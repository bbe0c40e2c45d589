"""The table of fields says what the server does; `tests/unit/test_docs.py` has the page of it."""

from __future__ import annotations

from typing import Any

import pytest

from vlm_dlm_app.answering.structure import FIELDS
from vlm_dlm_app.answering.thinking import thinking_of
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.schemas.chat import ChatRequest, StreamOptions
from vlm_dlm_app.schemas.common import REQUEST_OPTIONS
from vlm_dlm_app.schemas.fields.nested import STREAM_OPTIONS
from vlm_dlm_app.schemas.fields.page import PLACES
from vlm_dlm_app.schemas.fields.request import HARMLESS, REQUEST
from vlm_dlm_app.schemas.fields.rules import Place, Rule, honoured, refused
from vlm_dlm_app.schemas.messages import ChatMessage

MESSAGE = next(place for place in PLACES if place.title == "A message")
# A value that none of the fields can have in earnest.
ODD = {"odd": "value"}


def is_about_thinking(name: str) -> bool:
    """Whether its value is read for that: one that says neither is refused."""
    try:
        thinking_of({name: 7})
    except ApiError:
        return True
    return False


@pytest.mark.parametrize(
    ("place", "model"),
    [(REQUEST, ChatRequest), (STREAM_OPTIONS, StreamOptions), (MESSAGE, ChatMessage)],
)
def test_what_is_called_honoured_is_read_and_nothing_else_is(place: Place, model: Any) -> None:
    read = set(model.model_fields)
    if model is ChatRequest:
        listed = [name for field in place.fields for name in field.names]
        read |= {name for option in REQUEST_OPTIONS for name in option.request_names}
        read |= {*filter(is_about_thinking, listed)} | set(FIELDS)
    assert set(place.names(Rule.HONOURED)) == read


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.title)
def test_every_row_says_what_it_must(place: Place) -> None:
    for field in place.fields:
        assert field.names
        assert field.senders
        assert field.note
        assert "|" not in f"{field.note}{field.instead}{field.senders}"
        for name in field.names:
            if field.rule is Rule.REFUSED:
                with pytest.raises(ApiError) as refusal:
                    place.check({name: ODD}, "at.")
                message = refusal.value.message
                assert refusal.value.param == f"at.{name}"
                assert message.startswith(f"at.{name} cannot be honoured: {field.note}; ")
                assert message.endswith(field.remedy)
                for value in (None, "", [], {}, *field.neutral):
                    place.check({name: value})
            else:
                place.check({name: ODD})


def test_false_is_no_zero_and_an_object_may_say_more() -> None:
    place = Place("x", "", [refused("a", "y", "z", 0, {"type": "text"})], ignores_unknown=False)
    for value in (0, 0.0, {"type": "text", "more": 1}):
        place.check({"a": value})
    for value in (False, True, 1, "0", {"type": "other"}, {"more": 1}, [0]):
        with pytest.raises(ApiError):
            place.check({"a": value})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("temprature", "temperature"),
        ("max_token", "max_tokens"),
        ("generationmode", "generation_mode"),
    ],
)
def test_a_slip_is_told_what_may_be_meant(name: str, meant: str) -> None:
    with pytest.raises(
        ApiError, match=rf"^{name} is not known here.* or send {meant} if"
    ) as refusal:
        REQUEST.check({name: 1})
    assert (refusal.value.status, refusal.value.code) == (400, "unsupported_field")


def test_names_that_never_matter() -> None:
    REQUEST.check({f"{start}anything": ODD for start in HARMLESS}, harmless=HARMLESS)
    with pytest.raises(ApiError, match="not known here"):
        REQUEST.check({"anything_litellm_": ODD}, harmless=HARMLESS)


def test_a_name_of_any_length_costs_and_says_little() -> None:
    with pytest.raises(ApiError) as refusal:
        REQUEST.check({"x" + "temperature" * 100_000: 1})
    assert len(refusal.value.message) < 250


def test_no_field_is_listed_twice() -> None:
    with pytest.raises(ValueError, match="twice"):
        Place("x", "", [honoured("a b", "y", "z"), honoured("b", "y", "z")], ignores_unknown=False)
