"""One part of a message to text or a picture, in every form in which clients write them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.schemas.fields.nested import IMAGE_URL, PART
from vlm_dlm_app.schemas.messages import ContentPart, FunctionCall

TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
IMAGES = ("image_url", "input_image", "image")
FILES = ("file", "input_file")
THOUGHTS = ("thinking", "redacted_thinking", "reasoning")
CALL, RESULT = "tool_use", "tool_result"
# Where a picture may stand; the first that has one counts.
_HOLDERS = ("image_url", "image", "url", "source", "file", "file_data", "data", "base64")
_MIMES = ("media_type", "mime_type", "mimeType", "mediaType")
_ENCODED = ("data", "base64", "file_data")
_DEFAULT_MIME = "image/png"  # pictures are told apart by their content
MAX_NESTING = 3


class Picture(str):
    """What stands for a picture: a data URI, base64 or an URL."""


def pieces_of(part: ContentPart, place: str, role: str) -> list[str | Picture]:
    """What the model reads of it, in order; nothing of a past thought.

    place: of the part, as `messages.0.content.1`. role: who says it. Raises ApiError for what is
    neither text nor a picture.
    """
    fields = part.model_extra or {}
    kind = part.type or _kind_of(part, fields)
    PART.check(fields, f"{place}.")
    if kind in TEXTS:
        return [_text(part, fields, kind, place)]
    if kind in IMAGES or kind in FILES:
        if part.text:
            message = f"{place} is of type {kind} but has text too; send the text as another part"
            raise ApiError("bad_input", message, place)
        return [_picture(fields, kind, place)]
    if kind in THOUGHTS and role == "assistant":
        return []
    if kind == CALL:
        return [call_text(str(fields.get("name", "")), fields.get("input"))]
    if kind == RESULT:
        return result_of(_inner(fields.get("content"), f"{place}.content", role))
    message = f"{place}.type is {_shown(kind)}; only text and pictures (image_url) are read here"
    raise ApiError("unsupported_content", message, f"{place}.type")


def call_text(name: str, arguments: Any) -> str:
    """A call of a tool, as models are taught to write them. arguments: JSON as text, or a value."""
    given = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    shown = given if given and arguments is not None else "{}"
    name = json.dumps(name, ensure_ascii=False)
    return f'<tool_call>\n{{"name": {name}, "arguments": {shown}}}\n</tool_call>'


def function_text(call: FunctionCall) -> str:
    return call_text(call.name, call.arguments)


def result_of(pieces: Iterable[str | Picture]) -> list[str | Picture]:
    """What a tool has answered, as models are taught to read it."""
    return ["<tool_response>\n", *pieces, "\n</tool_response>"]


def _kind_of(part: ContentPart, fields: Mapping[str, Any]) -> str:
    """Of a part that does not say."""
    if part.text is not None:
        return "text"
    return next((name for name in ("image_url", "image") if fields.get(name)), "")


def _text(part: ContentPart, fields: Mapping[str, Any], kind: str, place: str) -> str:
    text = part.text if TEXTS[kind] == "text" else fields.get(kind, part.text)
    if not isinstance(text, str):
        raise ApiError("bad_input", f"{place} is of type {kind} but has no {kind}", place)
    other = next((name for name in IMAGES if fields.get(name)), None)
    if other is not None:
        message = f"{place} is of type {kind} but has {other} too; send that as another part"
        raise ApiError("bad_input", message, place)
    return text


def _picture(fields: Mapping[str, Any], kind: str, place: str) -> Picture:
    found = _found(fields, place, 0)
    if found is None:
        message = f"{place} is of type {kind} but has no picture; send its data as {IMAGES[0]}"
        raise ApiError("bad_input", message, place)
    if kind in FILES and found[:5].lower() == "data:" and found[5:11].lower() != "image/":
        message = f"{place} is a file that is no picture; only text and pictures are read here"
        raise ApiError("unsupported_content", message, place)
    return Picture(found)


def _found(fields: Mapping[str, Any], place: str, depth: int) -> str | None:
    """The picture among these fields or in an object that one of them is."""
    for name in _HOLDERS:
        value = fields.get(name)
        if isinstance(value, str) and value:
            return _as_uri(value, fields) if name in _ENCODED else value
        if isinstance(value, dict) and depth < MAX_NESTING:
            inner = cast("dict[str, Any]", value)
            IMAGE_URL.check(inner, f"{place}.{name}.")
            found = _found(inner, f"{place}.{name}", depth + 1)
            if found is not None:
                return found
        elif value is not None and value != "":
            message = f"{place}.{name} must be text or an object with url"
            raise ApiError("invalid_value", message, f"{place}.{name}")
    return None


def _as_uri(data: str, fields: Mapping[str, Any]) -> str:
    """base64 with its type beside it. What is an URI already stays what it is."""
    if data[:5].lower() == "data:" or data[:4].lower() == "http":
        return data
    mimes = (fields.get(name) for name in _MIMES)
    mime = next((mime for mime in mimes if isinstance(mime, str)), _DEFAULT_MIME)
    return f"data:{mime};base64,{data}"


def _inner(content: Any, place: str, role: str) -> list[str | Picture]:
    """What a result of a tool holds: a text, or parts."""
    if content is None or isinstance(content, str):
        return [content or ""]
    if not isinstance(content, list):
        raise ApiError("invalid_value", f"{place} must be text or a list of parts", place)
    pieces: list[str | Picture] = []
    for index, entry in enumerate(cast("list[Any]", content)):
        if not isinstance(entry, dict) or cast("Any", entry).get("type") == RESULT:
            message = f"{place}.{index} must be a part that is text or a picture"
            raise ApiError("invalid_value", message, f"{place}.{index}")
        values = cast("dict[str, Any]", entry)
        texts = {name: values.get(name) for name in ("type", "text")}
        wrong = next((name for name, v in texts.items() if not isinstance(v, str | None)), None)
        if wrong is not None:
            spot = f"{place}.{index}.{wrong}"
            raise ApiError("invalid_value", f"{spot} must be text", spot)
        pieces += pieces_of(_as_part(values, f"{place}.{index}"), f"{place}.{index}", role)
    return pieces


def _as_part(values: Mapping[str, Any], place: str) -> ContentPart:
    try:
        return ContentPart.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RequestValidationError([{**first, "loc": ("body", place, *first["loc"])}]) from None


def _shown(kind: str) -> str:
    return json.dumps(kind[:40])
