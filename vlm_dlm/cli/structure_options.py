"""The form of the answer, as options of commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vlm_dlm.errors import BadInputError, StructureError
from vlm_dlm.structure import MAX_BYTES, Structure, StructureKind

JsonSchema = Annotated[
    str | None,
    typer.Option(
        "--json-schema",
        metavar="FILE|JSON",
        help="Answer with JSON of this schema: a file, or the schema itself.",
    ),
]
Regex = Annotated[
    str | None,
    typer.Option("--regex", metavar="PATTERN", help="Answer with a text that matches as a whole."),
]
Choice = Annotated[
    list[str] | None,
    typer.Option("--choice", metavar="TEXT", help="Answer with one of these; give it repeatedly."),
]
OPTIONS: dict[str, Any] = {"json_schema": JsonSchema, "regex": Regex, "choice": Choice}


def structure_of(
    json_schema: str | None, regex: str | None, choice: list[str] | None
) -> Structure | None:
    """What was asked for; None for any answer. Raises BadInputError."""
    given = {"--json-schema": json_schema, "--regex": regex, "--choice": choice}
    named = [name for name, value in given.items() if value]
    if len(named) > 1:
        raise BadInputError(f"{' and '.join(named)} do not go together; give one of them")
    if json_schema:
        return Structure(StructureKind.JSON, _schema(json_schema))
    if regex:
        return Structure(StructureKind.REGEX, regex)
    return Structure(StructureKind.CHOICE, json.dumps(choice)) if choice else None


def _schema(text: str) -> str:
    """The text itself if it is an object, else what is in the file of that name."""
    if text.lstrip().startswith("{"):
        return text
    try:
        with Path(text).open(encoding="utf-8") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError):
        raise StructureError(f"{text} is neither a JSON schema nor a file with one") from None
