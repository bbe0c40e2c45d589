"""What is too large to look at is refused before anything reads it."""

from __future__ import annotations

import json

import pytest

from vlm_dlm.errors import BadInputError, StructureError
from vlm_dlm.request import SamplingParams
from vlm_dlm.structure import MAX_BYTES, MAX_CHOICES, MAX_DEPTH, Structure, StructureKind


@pytest.mark.parametrize(
    ("kind", "source", "reason"),
    [
        (StructureKind.REGEX, "ü" * (MAX_BYTES // 2 + 1), f"the limit is {MAX_BYTES}"),
        (StructureKind.REGEX, "(" * 60 + ")" * 60, f"more than {MAX_DEPTH} levels"),
        (StructureKind.JSON, '{"a":' * 60 + "1" + "}" * 60, f"more than {MAX_DEPTH} levels"),
        (StructureKind.JSON, '{"}":' * 60 + "1" + "}" * 60, f"more than {MAX_DEPTH} levels"),
        (StructureKind.JSON, '{"}":' * 5000 + "1" + "}" * 5000, f"more than {MAX_DEPTH} levels"),
        (StructureKind.REGEX, r"(\)" * 60, f"more than {MAX_DEPTH} levels"),
        (StructureKind.REGEX, "\ud800", "valid Unicode"),
        (StructureKind.GRAMMAR, "\n ", "is empty"),
        (StructureKind.CHOICE, "[]", "at least one text"),
        (StructureKind.CHOICE, '["a", ""]', "none of them empty"),
        (StructureKind.CHOICE, '["a", 1]', "a list of texts"),
        (StructureKind.CHOICE, '{"a": "b"}', "a list of texts"),
        (StructureKind.CHOICE, "yes", "a list of texts"),
        (StructureKind.CHOICE, json.dumps(["a"] * (MAX_CHOICES + 1)), f"limit is {MAX_CHOICES}"),
    ],
)
def test_it_is_refused_with_the_limit(kind: StructureKind, source: str, reason: str) -> None:
    with pytest.raises(StructureError, match=reason):
        Structure(kind, source)


def test_what_is_at_the_limits_is_taken() -> None:
    Structure(StructureKind.REGEX, "a" * MAX_BYTES)
    Structure(StructureKind.JSON, "[" * MAX_DEPTH + "]" * MAX_DEPTH)
    choices = [f"text {number}" for number in range(MAX_CHOICES)]
    assert Structure(StructureKind.CHOICE, json.dumps(choices)).choices() == choices


def test_a_thinking_budget_is_refused_beside_it() -> None:
    """It would force a token that the form does not allow."""
    with pytest.raises(BadInputError, match="max_thinking_tokens"):
        SamplingParams(structure=Structure(StructureKind.REGEX, "a"), max_thinking_tokens=3)


def test_equal_ones_are_one_key() -> None:
    first, second = (Structure(StructureKind.REGEX, "a+") for _ in range(2))
    assert {first: 1}[second] == 1
