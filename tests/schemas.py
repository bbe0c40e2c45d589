"""JSON schemas at random, whose answers are short: what a client might ask a model to fill in."""

from __future__ import annotations

import random
from typing import Any

WORDS = ("shape", "color", "count", "size", "label", "left of", "is_round", "Größe", "a/b", "x")
_ONE: dict[str, Any] = {
    "type": "object",
    "properties": {"v": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["v"],
    "additionalProperties": False,
}
PATTERNS = ("^[a-z]{1,6}$", "^[0-9]{2}-[A-F]+$", "^(red|blue|a b)$")


def random_schema(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """One schema; at most three levels."""
    makers = [_enum, _const, _integer, _number, _text, _pattern, _format, _plain]
    if depth < 3:
        makers += [_object, _object, _object, _array, _any_of, _reference]
    if depth == 0:
        return {**_object(rng, depth), "$defs": {"one": _ONE}}
    return rng.choice(makers)(rng, depth)


def _enum(rng: random.Random, depth: int) -> dict[str, Any]:
    values: list[Any] = ["circle", "two words", 'a "quote"', "ü", 3, -1, 2.5, True, None]
    return {"enum": rng.sample(values, rng.randint(1, 4))}


def _const(rng: random.Random, depth: int) -> dict[str, Any]:
    return {"const": rng.choice([1, "fixed", False])}


def _integer(rng: random.Random, depth: int) -> dict[str, Any]:
    low = rng.randint(-20, 100)
    return {"type": "integer", "minimum": low, "maximum": low + rng.randint(0, 200)}


def _number(rng: random.Random, depth: int) -> dict[str, Any]:
    return {"type": "number", "minimum": 0, "exclusiveMaximum": rng.choice([1, 10, 2.5])}


def _text(rng: random.Random, depth: int) -> dict[str, Any]:
    shortest = rng.randint(0, 2)
    return {"type": "string", "minLength": shortest, "maxLength": shortest + rng.randint(0, 8)}


def _pattern(rng: random.Random, depth: int) -> dict[str, Any]:
    return {"type": "string", "pattern": rng.choice(PATTERNS), "maxLength": 12}


def _format(rng: random.Random, depth: int) -> dict[str, Any]:
    return {"type": "string", "format": rng.choice(["date", "time", "ipv4", "uuid"])}


def _plain(rng: random.Random, depth: int) -> dict[str, Any]:
    return {"type": rng.choice(["boolean", "null", ["boolean", "null"]])}


def _object(rng: random.Random, depth: int) -> dict[str, Any]:
    names = rng.sample(WORDS, rng.randint(1, 4))
    return {
        "type": "object",
        "properties": {name: random_schema(rng, depth + 1) for name in names},
        "required": rng.sample(names, rng.randint(0, len(names))),
        "additionalProperties": False,
    }


def _array(rng: random.Random, depth: int) -> dict[str, Any]:
    least = rng.randint(0, 2)
    items = random_schema(rng, depth + 1)
    return {
        "type": "array",
        "items": items,
        "minItems": least,
        "maxItems": least + rng.randint(0, 2),
    }


def _any_of(rng: random.Random, depth: int) -> dict[str, Any]:
    return {"anyOf": [random_schema(rng, depth + 1) for _ in range(rng.randint(2, 3))]}


def _reference(rng: random.Random, depth: int) -> dict[str, Any]:
    return {"type": "array", "items": {"$ref": "#/$defs/one"}, "maxItems": 2}
