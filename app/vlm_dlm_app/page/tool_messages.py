"""Messages of MCP, read as every other body before its package sees them.

The package parses and checks on the event loop, whatever a body holds. So it gets the message
without the arguments of a tool, which are all that may be large.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ConfigDict, Field, StrictInt, StrictStr
from starlette.responses import JSONResponse

from vlm_dlm_app.http.bodies import read_json, work_on
from vlm_dlm_app.http.errors import ApiError, note_error, to_api_error
from vlm_dlm_app.http.parsing import SMALL_BYTES, effort_of
from vlm_dlm_app.schemas.bounds import MAX_FIELDS, Argument, BoundedModel

CALL = "tools/call"
# Codes of JSON-RPC.
_PARSE_ERROR, _INVALID_REQUEST = -32700, -32600


class _Params(BoundedModel):
    model_config = ConfigDict(extra="allow")

    arguments: Annotated[dict[str, Argument], Field(max_length=MAX_FIELDS)] | None = None


class _Message(BoundedModel):
    """Fields that are not named here are for the package. No message asks a client anything, so
    that none from it is an answer."""

    model_config = ConfigDict(extra="allow")

    jsonrpc: Literal["2.0"]
    id: StrictStr | StrictInt | None = None
    method: str
    params: _Params | None = None


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """A message of MCP in two parts.

    rest: the message as JSON, with no arguments of a tool.
    arguments: those.
    """

    rest: bytes
    arguments: Mapping[str, Any]


async def read_message(request: Request) -> ToolMessage:
    """Raises ApiError (400, 413, 415) or RequestValidationError."""
    return await work_on(request, await read_json(request, _Message), _split)


def refused(request: Request, error: ApiError | RequestValidationError) -> JSONResponse:
    """The answer as clients of MCP read it."""
    found = to_api_error(error)
    note_error(request.scope, found.code)
    code = _PARSE_ERROR if found.code == "invalid_json" else _INVALID_REQUEST
    fault = {"code": code, "message": found.message}
    return JSONResponse({"jsonrpc": "2.0", "id": "server-error", "error": fault}, found.status)


def _split(message: _Message) -> ToolMessage:
    arguments: Mapping[str, Any] = {}
    if message.method == CALL and message.params is not None:
        arguments = message.params.arguments or {}
        message.params.arguments = {}
    rest = message.model_dump_json(exclude_unset=True).encode()
    if effort_of(rest) > SMALL_BYTES:
        text = "a message of MCP may be large in the arguments of a tool alone"
        raise ApiError("body_too_large", text)
    return ToolMessage(rest, arguments)
