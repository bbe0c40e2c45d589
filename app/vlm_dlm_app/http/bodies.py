"""Bodies of the routes: JSON, or for some a form as well, read into one and the same model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, cast

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from vlm_dlm_app.http import multipart
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.header_values import parse_type
from vlm_dlm_app.http.idempotency import HEADER as KEY_HEADER
from vlm_dlm_app.http.idempotency import digest_of
from vlm_dlm_app.http.json_shape import check_shape
from vlm_dlm_app.http.json_text import without_escapes
from vlm_dlm_app.http.parsing import BodyWorker, effort_of

JSON = "application/json"
IMAGE = "image"
MAX_TEXT_BYTES_PER_CHAR = 4
_FLAGS = {"true": True, "1": True, "false": False, "0": False}

NOT_JSON = object()


class BodySettings(Protocol):
    """As in the settings of the server."""

    @property
    def max_image_bytes(self) -> int: ...
    @property
    def max_prompt_chars(self) -> int: ...
    @property
    def max_json_depth(self) -> int: ...


class BodyServer(Protocol):
    """What the application has as `state.services`, as far as bodies need it."""

    @property
    def settings(self) -> BodySettings: ...
    @property
    def worker(self) -> BodyWorker: ...


BodyT = TypeVar("BodyT", bound=BaseModel)
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class FormFields:
    """Fields of a form beside its images.

    objects: hold JSON.
    lists: may be repeated.
    """

    texts: frozenset[str]
    flags: frozenset[str]
    objects: frozenset[str]
    lists: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        return self.texts | self.flags | self.objects | self.lists


@dataclass(frozen=True, slots=True)
class Received(Generic[BodyT]):
    """A checked body, and the files of a form.

    digest: equal for equal requests, where a key asks for that; the boundary of a form, which
        nobody chooses, has no part.
    effort: of work on it.
    """

    body: BodyT
    files: tuple[bytes, ...] = ()
    digest: bytes = b""
    effort: int = 0


async def read_body(request: Request, model: type[BodyT], fields: FormFields) -> Received[BodyT]:
    """The body as JSON or a form brought it.

    Raises ApiError (400, 413, 415) or RequestValidationError.
    """
    content_type, media_type = _types(request)
    if media_type == JSON:
        return await _read_json(request, model)
    if media_type != multipart.MEDIA_TYPE:
        message = f"the body must be {JSON} or {multipart.MEDIA_TYPE}"
        raise ApiError("unsupported_media_type", message)
    settings = _server_of(request).settings
    shape = multipart.FormShape(
        files=frozenset({IMAGE}),
        texts=fields.names,
        repeatable=fields.lists | {IMAGE},
        max_file_bytes=settings.max_image_bytes,
        max_text_bytes=settings.max_prompt_chars * MAX_TEXT_BYTES_PER_CHAR,
    )

    def read(raw: bytes, is_hashed: bool) -> Received[BodyT]:
        form = multipart.parse_form(content_type, raw, shape)
        body = _validated(model, _values(form, fields, settings.max_json_depth))
        files = tuple(form.files.get(IMAGE, ()))
        pieces = (body.model_dump_json().encode(), *files) if is_hashed else None
        return Received(body, files, digest_of(pieces) if pieces else b"")

    return await _read(request, read)


async def read_json(request: Request, model: type[BodyT]) -> Received[BodyT]:
    """The body as JSON, of routes that take nothing else.

    Raises ApiError (400, 415) or RequestValidationError.
    """
    if _types(request)[1] != JSON:
        raise ApiError("unsupported_media_type", f"the body must be {JSON}")
    return await _read_json(request, model)


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """For `openapi_extra=` of a route whose body `read_json` reads."""
    content = {JSON: {"schema": _inlined(model.model_json_schema())}}
    return {"requestBody": {"required": True, "content": content}}


def request_body(model: type[BaseModel], fields: FormFields) -> dict[str, Any]:
    """For `openapi_extra=` of a route whose body `read_body` reads."""
    schema = _inlined(model.model_json_schema())
    properties = schema["properties"]
    form = {name: properties[name] for name in properties if name in fields.names}
    form[IMAGE] = {"type": "array", "items": {"type": "string", "format": "binary"}}
    required = [name for name in schema.get("required", []) if name in form]
    form_schema = {
        "type": "object",
        "properties": form,
        "required": required,
        "additionalProperties": False,
    }
    # Without this, generic clients would send objects in other forms than JSON.
    encoding = {name: {"contentType": JSON} for name in sorted(fields.objects)}
    content = {
        JSON: {"schema": schema},
        multipart.MEDIA_TYPE: {"schema": form_schema, "encoding": encoding},
    }
    return {"requestBody": {"required": True, "content": content}}


def _server_of(request: Request) -> BodyServer:
    return request.app.state.services


def _types(request: Request) -> tuple[str, str]:
    """The Content-Type as it was sent, and the media type in it."""
    content_type = request.headers.get("content-type", "")
    return content_type, parse_type(content_type)[0]


async def _read_json(request: Request, model: type[BodyT]) -> Received[BodyT]:
    def read(raw: bytes, is_hashed: bool) -> Received[BodyT]:
        digest = digest_of((raw,)) if is_hashed else b""
        text = without_escapes(raw)
        del raw
        value = _parse_json(text)
        if value is NOT_JSON:
            raise ApiError("invalid_json", _fault(text))
        del text
        return Received(_validated(model, value), digest=digest)

    return await _read(request, read)


async def _read(
    request: Request, read: Callable[[bytes, bool], Received[BodyT]]
) -> Received[BodyT]:
    """What `read` makes of the body, which is not kept: with what it holds it is large twice."""
    worker = _server_of(request).worker
    is_hashed = KEY_HEADER in request.headers
    chunks = [chunk async for chunk in request.stream()]  # one, from the middleware
    bodies = [b"".join(chunks)]
    chunks.clear()
    client = request.scope.get("state", {}).get("client", "")
    effort = effort_of(bodies[0])
    received = await worker.run(client, effort, lambda: read(bodies.pop(), is_hashed))
    return replace(received, effort=effort)


async def work_on(
    request: Request, received: Received[BodyT], work: Callable[[BodyT], ResultT]
) -> ResultT:
    """What `work` makes of a checked body, where its size belongs."""
    worker = _server_of(request).worker
    client = request.scope.get("state", {}).get("client", "")
    return await worker.run(client, received.effort, lambda: work(received.body))


def _fault(raw: bytes | bytearray) -> str:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return "the body is not valid JSON in UTF-8"
    return "the body is not valid JSON"


def _parse_json(data: str | bytes | bytearray) -> Any:
    """The value, or NOT_JSON; NaN and Infinity are no JSON. Depth is for the caller to check."""
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError:
        return NOT_JSON


def _validated(model: type[BodyT], raw: Any) -> BodyT:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from None


def _values(form: multipart.Form, fields: FormFields, max_depth: int) -> dict[str, Any]:
    """The form's texts as the JSON body would hold them."""
    values: dict[str, Any] = {}
    for name, texts in form.texts.items():
        text = texts[0]
        if name in fields.flags:
            if text.lower() not in _FLAGS:
                raise ApiError("invalid_value", f"{name} must be true or false", name)
            values[name] = _FLAGS[text.lower()]
        elif name in fields.objects:
            check_shape(text.encode(), max_depth)
            value = _parse_json(text)
            if not isinstance(value, dict):
                raise ApiError("invalid_value", f"{name} must be a JSON object", name)
            values[name] = value
        elif name in fields.lists:
            values[name] = ",".join(texts)
        else:
            values[name] = text
    return values


def _inlined(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without references, which would point outside of it in the document it joins."""
    definitions = cast("dict[str, Any]", schema.get("$defs", {}))

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(part) for part in cast("list[Any]", node)]
        if not isinstance(node, dict):
            return node
        parts = cast("dict[str, Any]", node)
        if "$ref" in parts:
            target = definitions[parts["$ref"].rpartition("/")[2]]
            parts = {**target, **{name: parts[name] for name in parts if name != "$ref"}}
        return {name: resolve(part) for name, part in parts.items() if name != "$defs"}

    return resolve(dict(schema))
