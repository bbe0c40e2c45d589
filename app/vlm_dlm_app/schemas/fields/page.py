"""docs/fields.md, written from the table by `make docs`."""

from __future__ import annotations

import json

from vlm_dlm_app.schemas.fields.nested import (
    IMAGE_URL,
    MESSAGE,
    PART,
    STREAM_OPTIONS,
    THINKING_OPTIONS,
)
from vlm_dlm_app.schemas.fields.request import REQUEST
from vlm_dlm_app.schemas.fields.rules import Field, Place, Rule

PLACES = (REQUEST, MESSAGE, PART, IMAGE_URL, STREAM_OPTIONS, THINKING_OPTIONS)
_HEAD = """# Fields of a chat request

Written from the table that the server checks requests with; `make docs` writes it again. The rule
behind it is in [api.md](api.md#what-becomes-of-a-field). Null and empty values (`""`, `[]`, `{}`)
never refuse a request. A refusal is 400 `unsupported_field`, names the field in `param`, and says
why and what would work.
"""
_GROUPS = (
    (Rule.HONOURED, "Honoured", "What it does"),
    (Rule.IGNORED, "Ignored", "Why it changes nothing"),
    (Rule.REFUSED, "Refused", "Why, and what is taken"),
)


def written() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(_section(place) for place in PLACES)])


def _section(place: Place) -> str:
    parts = [f"## {place.title}\n\n{place.intro}\n"]
    for rule, name, heading in _GROUPS:
        fields = [field for field in place.fields if field.rule is rule]
        if fields:
            rows = "\n".join(_row(field) for field in fields)
            parts.append(f"| {name} | Sent by | {heading} |\n|---|---|---|\n{rows}\n")
    return "\n".join(parts)


def _row(field: Field) -> str:
    names = ", ".join(f"`{name}`" for name in field.names)
    note = field.note
    if field.rule is Rule.REFUSED:
        values = ", ".join(f"`{json.dumps(value)}`" for value in field.neutral)
        note += f"; taken: {values}" if values else ""
        note += f"; {field.instead}" if field.instead else ""
    return f"| {names} | {field.senders} | {note} |"
