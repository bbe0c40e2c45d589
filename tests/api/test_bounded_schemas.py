"""No request can hold more than is said: every text, list and object of every body has a bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from vlm_dlm_app.page.record import Record
from vlm_dlm_app.page.report_route import ReportBody
from vlm_dlm_app.schemas.bounds import MAX_FIELDS, BoundedModel
from vlm_dlm_app.schemas.chat import ChatRequest
from vlm_dlm_app.schemas.compare import CompareBody
from vlm_dlm_app.schemas.generate import GenerateBody

BODIES: tuple[type[BaseModel], ...] = (ChatRequest, CompareBody, GenerateBody, ReportBody, Record)
COLLECTIONS = frozenset({"list", "set", "frozenset", "dict", "tuple", "generator"})
# pydantic's words for schemas whose parts are looked at below them.
OF_REPORTS = ("record.values_schema: any",)
OF_SCHEMAS = ("schema_.choices.0.values_schema: any", "fields.schema_.values_schema: any")
OF_SCHEMAS += ("fields.json_.choices.0.values_schema: any",)
OF_TOOLS = (
    "tools.items_schema.values_schema: any",
    "functions.items_schema.values_schema: any",
    "fields.arguments: any",
)
UNBOUNDED = frozenset({"any", "bytes", "json", "callable", "custom-error"})


def nodes(schema: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of pydantic's own schema of a model, with where it is."""
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield place, schema
        for name, part in schema.items():
            if name not in ("metadata", "serialization"):
                yield from nodes(part, f"{place}.{name}" if name != "schema" else place)
    elif isinstance(schema, list | tuple):
        for index, part in enumerate(schema):
            yield from nodes(part, f"{place}.{index}")


def fault(node: dict[str, Any]) -> str | None:
    """What is unbounded about one part, if anything is."""
    kind = node["type"]
    if kind == "str" and "max_length" not in node and "pattern" not in node:
        return "a text without max_length"
    if kind == "tuple":
        has_rest = node.get("variadic_item_index") is not None
        return "a tuple of any length" if has_rest and "max_length" not in node else None
    if kind in COLLECTIONS and "max_length" not in node:
        return f"a {kind} without max_length"
    if kind in ("list", "dict") and not node.get("fail_fast") and holds_models(node):
        return f"a {kind} whose checking goes on after the first fault"
    return f"{kind}, whatever it holds" if kind in UNBOUNDED else None


def holds_models(node: dict[str, Any]) -> bool:
    return node.get("items_schema", node.get("values_schema", {})).get("type") != "any"


@pytest.mark.parametrize("model", BODIES, ids=lambda model: model.__name__)
def test_everything_in_a_body_is_bounded(model: type[BaseModel]) -> None:
    faults = [
        f"{place}: {found}"
        for place, node in nodes(model.__pydantic_core_schema__, model.__name__)
        if (found := fault(node)) is not None
    ]
    # Schemas of answers are bounded where they are written down (`vlm_dlm.structure`).
    # The record is checked by a model of its own, which is among these. Definitions and arguments
    # of tools are any JSON, bounded as a whole by `json_shape` and read by nobody.
    allowed = OF_REPORTS if model is ReportBody else (*OF_TOOLS, *OF_SCHEMAS)
    assert [text for text in faults if not any(part in text for part in allowed)] == []


@pytest.mark.parametrize("model", BODIES, ids=lambda model: model.__name__)
def test_unknown_fields_are_counted_before_they_are_looked_at(model: type[BaseModel]) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate({f"field{number}": 1 for number in range(MAX_FIELDS + 1)})
    assert caught.value.error_count() == 1
    assert "more fields than the limit" in str(caught.value)


def models_in(model: type[BaseModel]) -> set[type[BaseModel]]:
    """It and all models below it that it reads."""
    found = {model}
    for _, node in nodes(model.__pydantic_core_schema__, ""):
        if node["type"] == "model":
            found.add(node["cls"])
    return found


@pytest.mark.parametrize("model", BODIES, ids=lambda model: model.__name__)
def test_whatever_minds_unknown_fields_counts_them(model: type[BaseModel]) -> None:
    minding = {
        part for part in models_in(model) if part.model_config.get("extra", "ignore") != "ignore"
    }
    assert minding or model is Record
    assert all(issubclass(part, BoundedModel) for part in minding)


def test_the_walk_sees_what_it_must_see() -> None:
    class Inner(BaseModel):
        names: list[str]

    class Outer(BaseModel):
        inner: dict[str, Inner]
        other: Any

    found = [fault(node) for _, node in nodes(Outer.__pydantic_core_schema__, "")]
    said = " ".join(filter(None, found))
    for part in ("text without", "list without", "dict without", "any, whatever"):
        assert part in said
    assert Inner in models_in(Outer)


LARGE = ([1] * 50_000, [{}] * 50_000, [None] * 50_000, {str(i): i for i in range(9999)})


def num_faults(model: type[BaseModel], value: Any) -> int:
    try:
        model.model_validate(value)
    except ValidationError as error:
        return error.error_count()
    return 0


@pytest.mark.parametrize("model", BODIES[:4], ids=lambda model: model.__name__)
def test_nothing_large_makes_many_errors(model: type[BaseModel]) -> None:
    for name in model.model_fields:
        for large in LARGE:
            assert num_faults(model, {name: large}) < 30, name
