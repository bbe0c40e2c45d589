"""What a failed check says: one sentence of ours per pydantic error, never the library's own.

It names what was expected and, where the error holds it, what came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

# Error types that need no figure from the check. Others are looked up by their family below.
_SENTENCES = {
    "missing": "is required",
    "extra_forbidden": "is not known here",
    "json_invalid": "is not valid JSON",
    "none_required": "must be null",
    "finite_number": "must be a finite number",
    "string_unicode": "must be valid Unicode text",
    "string_pattern_mismatch": "has a form that is not allowed",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "bytes_type": "must be a file",
}
# First part of the error type -> what is wanted.
_FAMILIES = {
    "int": "must be a whole number",
    "float": "must be a number",
    "decimal": "must be a number",
    "bool": "must be true or false",
    "string": "must be text",
    "path": "must be a path",
    "union": "names no variant that is known here",
}
# Error type -> (words, key of the figure in the error's context).
_LIMITS = {
    "greater_than": ("must be above", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be below", "lt"),
    "less_than_equal": ("must be at most", "le"),
    "string_too_short": ("must have at least this many characters:", "min_length"),
    "string_too_long": ("is longer than the limit of characters, which is", "max_length"),
    "too_short": ("must have at least this many entries:", "min_length"),
    "too_long": ("has more entries than the limit, which is", "max_length"),
    "literal_error": ("must be one of", "expected"),
    "enum": ("must be one of", "expected"),
    "union_tag_invalid": ("must be one of", "expected_tags"),
}
# What pydantic calls things that have entries; anything else that is too short or long is text.
_HAVE_ENTRIES = frozenset({"List", "Tuple", "Set", "Frozenset", "Dictionary"})
_MAX_SHOWN_CHARS = 40
_HUGE = 10**20
_WHERE = frozenset({"body", "query", "path", "header", "cookie"})


def place_of(error: Mapping[str, Any]) -> str | None:
    """The field, dotted (`messages.0.content`); None for the body as a whole.

    Names come from the request, so they are cut to 100 characters.
    """
    loc: Sequence[Any] = error["loc"]
    parts = [str(part) for part in loc]
    if parts and parts[0] in _WHERE:
        parts = parts[1:]
    return ".".join(parts)[:100] or None


def sentence_of(error: Mapping[str, Any]) -> str:
    """What the value must be and what came instead, to follow the field's name."""
    sentence = _expected(error)
    says_what_came = "input" in error and sentence.startswith("must be ")
    return f"{sentence}, not {shown(error['input'])}" if says_what_came else sentence


def shown(value: Any) -> str:
    """A value as a sentence can name it: short ones as they came, others by kind and size."""
    if isinstance(value, str):
        is_short = len(value) <= _MAX_SHOWN_CHARS and value.isprintable()
        return f'"{value}"' if is_short else f"text of {len(value)} characters"
    if isinstance(value, list):
        return f"a list of {len(cast('list[Any]', value))}"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, int) and abs(value) >= _HUGE:
        return "a number of many digits"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if isinstance(value, int | float) else "something else"


def _expected(error: Mapping[str, Any]) -> str:
    kind = str(error["type"])
    context: Mapping[str, Any] = error.get("ctx") or {}
    if kind == "value_error":  # raised by our own validators, so the text is ours
        return str(context["error"])
    if kind in ("too_short", "too_long") and context.get("field_type") not in _HAVE_ENTRIES:
        kind = f"string_{kind}"
    if kind in ("too_short", "string_too_short") and context.get("min_length") == 1:
        return "must not be empty"
    if kind in _LIMITS:
        words, key = _LIMITS[kind]
        if key not in context:
            return "has a value that is not allowed"
        limit = context[key]
        return f"{words} {limit:g}" if isinstance(limit, float) else f"{words} {limit}"
    if kind in _SENTENCES:
        return _SENTENCES[kind]
    return _FAMILIES.get(kind.split("_")[0], "has a value that is not allowed")
