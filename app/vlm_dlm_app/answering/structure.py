"""The form that an answer must have, under the many names that clients have for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from vlm_dlm.errors import StructureError
from vlm_dlm.structure import ANY_OBJECT, Structure, StructureKind
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.schemas.common import AnswerOptions
from vlm_dlm_app.schemas.fields.rules import is_empty
from vlm_dlm_app.schemas.structure import ResponseFormat
from vlm_dlm_app.state import Services

# Fields of others that are one structure each, and how it is written.
FIELDS = {
    "guided_json": StructureKind.JSON,
    "json_schema": StructureKind.JSON,
    "guided_regex": StructureKind.REGEX,
    "regex": StructureKind.REGEX,
    "guided_choice": StructureKind.CHOICE,
    "guided_grammar": StructureKind.GRAMMAR,
    "ebnf": StructureKind.GRAMMAR,
    "grammar": StructureKind.GRAMMAR,
    "format": StructureKind.JSON,  # Ollama's, also with the word `json`
}
_ANY = "json"


def structure_of(options: AnswerOptions, extra: Mapping[str, Any] | None) -> Structure | None:
    """What the request says; None where it says nothing.

    extra: the fields of the request that its schema does not have. Raises ApiError for one that is
    not valid, and where several fields say something.
    """
    found = _wishes(options, extra or {})
    if len(found) > 1:
        names = " and ".join(found)
        message = f"{names} each say what the answer must be like; give one of them"
        raise ApiError("bad_input", message, next(iter(found)))
    for name, (kind, value) in found.items():
        return _structure(name, kind, value)
    return None


async def check_structure(services: Services, structure: Structure | None) -> None:
    """Raises StructureError for one that no engine could follow, UnavailableError where nobody has
    time to look at it."""
    trial = services.structures
    if structure is not None and not trial.is_known(structure):
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(trial.threads, trial.check, structure)


def _wishes(
    options: AnswerOptions, extra: Mapping[str, Any]
) -> dict[str, tuple[StructureKind, Any]]:
    """Every field that says something, with how and what."""
    found = {
        name: (kind, extra[name]) for name, kind in FIELDS.items() if not is_empty(extra.get(name))
    }
    if options.response_format is not None:
        schema = _schema_of(options.response_format)
        if schema is not None:
            found["response_format"] = StructureKind.JSON, schema
    outputs = options.structured_outputs
    if outputs is not None:
        own = {
            "json": (StructureKind.JSON, outputs.json_),
            "regex": (StructureKind.REGEX, outputs.regex),
            "choice": (StructureKind.CHOICE, outputs.choice),
            "grammar": (StructureKind.GRAMMAR, outputs.grammar),
            "json_object": (StructureKind.JSON, _ANY if outputs.json_object else None),
        }
        found |= {f"structured_outputs.{k}": v for k, v in own.items() if v[1] is not None}
    return found


def _schema_of(wanted: ResponseFormat) -> Any:
    """The schema as an object or text; None for answers of any form."""
    if wanted.type == "text":
        return None
    inner = wanted.json_schema
    schema = wanted.schema_ if inner is None else inner.schema_
    if schema is not None:
        return schema
    if wanted.type == "json_object":
        return _ANY
    message = "response_format of type json_schema needs json_schema.schema"
    raise ApiError("invalid_value", message, "response_format.json_schema")


def _structure(name: str, kind: StructureKind, value: Any) -> Structure:
    try:
        return Structure(kind, _source(kind, value))
    except StructureError as error:
        raise ApiError(StructureError.code, str(error), name) from None


def _source(kind: StructureKind, value: Any) -> str:
    """Raises StructureError for a value that cannot be one."""
    if kind is StructureKind.JSON and value == _ANY:
        return ANY_OBJECT
    if kind is StructureKind.CHOICE or (
        kind is StructureKind.JSON and isinstance(value, dict | bool)
    ):
        try:
            return json.dumps(value)
        except RecursionError:
            raise StructureError("it has too many levels") from None
    if not isinstance(value, str):
        wanted = "an object" if kind is StructureKind.JSON else "a text"
        raise StructureError(f"it must be {wanted}")
    return value
