"""Records are explained one field a line, so that a reader finds the one they look for."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODELS = {"BaseModel", "BaseSettings"}  # of pydantic
OWN_LINE = re.compile(r"(\w+, )*")  # before a name, in the line that explains it


def test_records_explain_one_field_a_line() -> None:
    wrong = [
        f"{place} {record.name}: {', '.join(fields)}"
        for place, record in _records()
        if (fields := _crowded(record))
    ]
    assert not wrong, "\n".join(["fields that do not begin a line of their docstring:", *wrong])


@pytest.mark.parametrize(
    ("lines", "crowded"),
    [
        ("What it is.\n\nlow: the least.\nhigh: the most.", []),
        ("What it is.\n\nlow, high: the ends.\nstep: between two.", []),
        ("What it is. low: the least.", []),
        ("What it is.\n\nlow: the least. high: the most.", ["high"]),
        ("What it is. low: the least.\n\nhigh: the most.", ["low"]),
        ("low: the least.\nhigh: the most.", ["low"]),
        ("What it is.\n\nlow: the least, of\n    which high: the most.", ["high"]),
    ],
)
def test_crowded_fields_are_found(lines: str, crowded: list[str]) -> None:
    record = ast.parse(f"class Span:\n    {lines!r}\n    low: int\n    high: int\n    step: int")
    assert isinstance(record.body[0], ast.ClassDef)
    assert _crowded(record.body[0]) == crowded


def test_the_records_of_both_packages_are_seen() -> None:
    """Dataclasses, models, and models that have another as their base."""
    names = {record.name for _, record in _records()}
    assert {"Stats", "SamplingParams", "ErrorDetail", "AnswerOptions", "CompareBody"} <= names


@cache
def _records() -> list[tuple[str, ast.ClassDef]]:
    """Every public dataclass and pydantic model, with where it is."""
    classes = [
        (f"{path.relative_to(ROOT)}:{node.lineno}", node)
        for folder in ("vlm_dlm", "app")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    models = _with_heirs(MODELS, [node for _, node in classes])
    return [
        (place, node)
        for place, node in classes
        if not node.name.startswith("_")
        and (node.name in models or "dataclass" in map(_name, node.decorator_list))
    ]


def _with_heirs(names: set[str], classes: list[ast.ClassDef]) -> set[str]:
    """These and all that come from them."""
    heirs = {node.name for node in classes if names.intersection(map(_name, node.bases))}
    return names if heirs <= names else _with_heirs(names | heirs, classes)


def _name(node: ast.expr) -> str:
    """Of a base or a decorator: without its module, what it is called with, or its parameters."""
    while isinstance(node, ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _crowded(record: ast.ClassDef) -> list[str]:
    """The fields that are explained elsewhere than at the start of a line, or in the first line,
    which says what the record is; none where one field alone is explained."""
    text = ast.get_docstring(record) or ""
    own = "|".join(re.escape(name) for name in _fields(record))
    found = list(re.finditer(rf"(?<![\w.`])({own}): ", text)) if own else []
    if len(found) < 2:
        return []
    return [match[1] for match in found if not _begins_line(text[: match.start()])]


def _begins_line(before: str) -> bool:
    head, newline, line = before.rpartition("\n")
    return bool(head and newline and OWN_LINE.fullmatch(line))


def _fields(record: ast.ClassDef) -> list[str]:
    return [
        node.target.id
        for node in record.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
