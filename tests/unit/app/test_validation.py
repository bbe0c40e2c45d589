"""A failed check is one sentence that fits what was given: text has characters, lists entries."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from vlm_dlm_app.http.validation import place_of, sentence_of
from vlm_dlm_app.schemas.common import AnswerOptions, Text
from vlm_dlm_app.schemas.generate import Question


class _Body(BaseModel):
    """Every kind of length."""

    text: Annotated[str, Field(min_length=3, max_length=4)] = "abc"
    checked: Annotated[Text, Field(min_length=3, max_length=4)] = "abc"
    names: Annotated[list[str], Field(min_length=2, max_length=3)] = ["a", "b"]
    several: Annotated[list[str], Field(min_length=1)] = ["a"]
    pairs: Annotated[dict[str, int], Field(max_length=1)] = {}


def said(model: type[BaseModel], values: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(values)
    first = caught.value.errors(include_url=False, include_input=False)[0]
    return f"{place_of(first)} {sentence_of(first)}"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"text": "a"}, "text must have at least this many characters: 3"),
        ({"text": "abcde"}, "text is longer than the limit of characters, which is 4"),
        ({"checked": "a"}, "checked must have at least this many characters: 3"),
        ({"checked": "abcde"}, "checked is longer than the limit of characters, which is 4"),
        ({"names": ["a"]}, "names must have at least this many entries: 2"),
        ({"names": ["a"] * 4}, "names has more entries than the limit, which is 3"),
        ({"several": []}, "several must not be empty"),
        ({"pairs": {"a": 1, "b": 2}}, "pairs has more entries than the limit, which is 1"),
    ],
)
def test_lengths(values: dict[str, Any], sentence: str) -> None:
    assert said(_Body, values) == sentence


def test_an_empty_question_must_not_be_empty() -> None:
    assert said(Question, {"prompt": ""}) == "prompt must not be empty"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"temperature": 3}, "temperature must be at most 2, not 3"),
        ({"temperature": "warm"}, 'temperature must be a number, not "warm"'),
        ({"temperature": "x" * 99}, "temperature must be a number, not text of 99 characters"),
        ({"temperature": "\n"}, "temperature must be a number, not text of 1 characters"),
        ({"temperature": []}, "temperature must be a number, not a list of 0"),
        ({"max_tokens": True}, "max_tokens must be a whole number, not true"),
        (
            {"max_tokens": 10**30},
            "max_tokens must be at most 2147483647, not a number of many digits",
        ),
        ({"priority": None}, None),
        ({"priority": {}}, "priority must be one of 'interactive' or 'batch', not an object"),
    ],
)
def test_what_was_expected_and_what_came(values: dict[str, Any], sentence: str | None) -> None:
    if sentence is None:
        AnswerOptions.model_validate(values)
        return
    with pytest.raises(ValidationError) as caught:
        AnswerOptions.model_validate(values)
    first = caught.value.errors(include_url=False)[0]
    assert f"{place_of(first)} {sentence_of(first)}" == sentence
