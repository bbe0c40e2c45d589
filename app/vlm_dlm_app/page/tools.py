"""The named endpoints as tools for MCP: JSON objects in, JSON objects out.

The transport is the protocol's own package, one POST per message and nothing kept between them.
Gradio's is not used: it gives results as text of Python, and has pictures fetched by itself.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from pydantic import BaseModel, ConfigDict, Field, create_model
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from vlm_dlm import __version__
from vlm_dlm_app.answering.modes import offered_names
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.held_bytes import HOLD_KEY, Hold
from vlm_dlm_app.http.middleware.body import replay, with_body
from vlm_dlm_app.page.handlers import UPLOAD_PATH
from vlm_dlm_app.page.runs import checked, sentence
from vlm_dlm_app.page.tool_messages import read_message, refused
from vlm_dlm_app.page.upload_routes import FIELD
from vlm_dlm_app.schemas.common import REQUEST_OPTIONS
from vlm_dlm_app.schemas.generate import Options

if TYPE_CHECKING:
    from vlm_dlm_app.page.endpoints import Endpoints
    from vlm_dlm_app.state import Services

PATHS = ("/gradio_api/mcp", "/gradio_api/mcp/")
# Results of endpoints that are no objects -> the name under which they stand in one.
WRAPPED = {"modes": "modes", "report": "html"}
# Of all that `options` takes, what a model that calls tools may want.
OPTIONS = {
    "max_tokens": "most tokens of the answer",
    "temperature": "0 takes the likeliest token, higher is more varied; 0 to 2",
    "top_p": "draw from the likeliest tokens that have this share together",
    "seed": "the same seed gives the same answer",
    "stop": "texts before which the answer ends",
    **{option.request_names[0]: option.tool_help or option.help for option in REQUEST_OPTIONS},
}
_URLS = {
    True: "An https URL of a picture is fetched too.",
    False: "URLs are not fetched by this server.",
}
_UPLOAD = f"What POST {UPLOAD_PATH} (a form, field {FIELD}) answered is taken too."
_ARG = re.compile(r"^ {4}(\w+): (.*?)(?=^ {4}\w+: |\Z)", re.DOTALL | re.MULTILINE)

# In the scope of a call, which the package hands on.
ARGUMENTS_KEY = "vlm_dlm_tool_arguments"

Tool = Callable[..., Coroutine[Any, Any, Any]]


class Tools:
    """One tool per endpoint. names: of the endpoints, in order."""

    def __init__(self, services: Services, endpoints: Endpoints, names: tuple[str, ...]) -> None:
        # It writes names and bodies that a client sent, and tracebacks for what was wrong in them.
        logging.getLogger("mcp").setLevel(logging.CRITICAL)
        self._server: Server[Any, Any] = Server("vlm-dlm", __version__)
        self._calls: dict[str, Tool] = {name: getattr(endpoints, name) for name in names}
        self._inputs = {name: _inputs(name, call) for name, call in self._calls.items()}
        self._tools = [self._described(services, name) for name in names]
        self._server.list_tools()(self._list)  # pyright: ignore[reportUnknownMemberType]
        self._server.call_tool(validate_input=False)(self._call)
        self._max_body_bytes = services.settings.max_body_bytes
        self._manager: StreamableHTTPSessionManager | None = None

    @property
    def routes(self) -> tuple[Route, ...]:
        """To be asked while `running`."""
        return tuple(Route(path, _App(self), methods=["POST"]) for path in PATHS)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Once."""
        self._manager = StreamableHTTPSessionManager(
            self._server,
            json_response=True,
            stateless=True,
            max_request_body_size=self._max_body_bytes,
        )
        async with self._manager.run():
            yield

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One message."""
        assert self._manager is not None, "the tools are not running"
        request = Request(scope, receive)
        try:
            message = await read_message(request)
        except (ApiError, RequestValidationError) as error:
            await refused(request, error)(scope, receive, send)
            return
        scope = {**with_body(scope, len(message.rest)), ARGUMENTS_KEY: message.arguments}
        await self._manager.handle_request(scope, replay(message.rest, receive), send)

    def _described(self, services: Services, name: str) -> types.Tool:
        text = inspect.getdoc(self._calls[name]) or ""
        about, _, rest = text.partition("\n\nArgs:\n")
        gives = (rest or text).partition("Returns:\n")[2]
        schema = self._inputs[name].model_json_schema()
        schema.pop("title", None)
        for field, its in schema.get("properties", {}).items():
            its.pop("title", None)
            if field in ("mode", "modes"):
                its["description"] += f" The modes: {', '.join(offered_names(services))}."
            if field == "image":
                its["description"] += f" {_UPLOAD} {_URLS[services.settings.allow_image_urls]}"
            if field == "options":
                its["properties"] = _options()
        about = about.partition("\n\nReturns:")[0]
        return types.Tool(
            name=name,
            description=f"{_joined(about)}\n\nGives: {_joined(gives)}",
            inputSchema=schema,
            annotations=types.ToolAnnotations(readOnlyHint=True, openWorldHint=False),
        )

    async def _list(self) -> list[types.Tool]:
        return self._tools

    async def _call(self, name: str, _: dict[str, Any]) -> types.CallToolResult:
        """The arguments come beside the message."""
        call = self._calls.get(name)
        if call is None:
            return _failed(f"There is no tool {name[:100]!r}; there are {', '.join(self._calls)}.")
        try:
            request = self._server.request_context.request
            assert isinstance(request, Request)
            inputs = checked(self._inputs[name], **request.scope[ARGUMENTS_KEY])
            given = {field: getattr(inputs, field) for field in inputs.model_fields_set}
            if "request" in inspect.signature(call).parameters:
                given["request"] = request
            found = await call(**given)
            result = {WRAPPED[name]: found} if name in WRAPPED else found
            text = json.dumps(result, ensure_ascii=False)
            hold: Hold = request.scope["state"][HOLD_KEY]
            hold.grow_to(_num_sent_bytes(text))  # until its reader has taken it
        except Exception as error:
            return _failed(str(getattr(error, "message", "")) or sentence(error))
        content = types.TextContent(type="text", text=text)
        return types.CallToolResult(content=[content], structuredContent=result)


class _App:
    """A class, as a router takes functions for something else."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._tools.handle(scope, receive, send)


def _inputs(name: str, call: Tool) -> type[BaseModel]:
    """What an endpoint takes, with the words of its documentation."""
    words = _words(inspect.getdoc(call) or "")
    fields: dict[str, Any] = {}
    for field, its in inspect.signature(call).parameters.items():
        if field != "request":
            default = ... if its.default is inspect.Parameter.empty else its.default
            fields[field] = (its.annotation, Field(default, description=words[field]))
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


def _words(doc: str) -> Mapping[str, str]:
    """Name of a parameter -> what it is, from the part `Args` of a docstring."""
    part = doc.partition("Args:\n")[2].partition("\nReturns:")[0]
    return {name: f"{_joined(text)}" for name, text in _ARG.findall(part)}


def _options() -> dict[str, Any]:
    """Their types are those of the HTTP interface."""
    known = Options.model_json_schema()["properties"]
    return {name: {**_typed(known[name]), "description": does} for name, does in OPTIONS.items()}


def _typed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Without the title and without null, which nobody need send."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    return dict(kinds[0]) if len(kinds) == 1 else {"anyOf": kinds} if kinds else dict(schema)


def _joined(text: str) -> str:
    words = " ".join(text.split())
    return words[:1].upper() + words[1:]


def _num_sent_bytes(text: str) -> int:
    """Of a result, which is sent twice: as this JSON, and as a text with this JSON in it."""
    num_escaped = text.count('"') + text.count("\\")
    return 2 * len(text.encode("utf-8", "replace")) + num_escaped


def _failed(message: str) -> types.CallToolResult:
    """An error that the model at the other end reads."""
    content = types.TextContent(type="text", text=message)
    return types.CallToolResult(content=[content], isError=True)
