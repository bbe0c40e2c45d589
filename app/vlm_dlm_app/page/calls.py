"""Bodies of calls, held to what Gradio's functions take before Gradio sees them.

Gradio gets what was checked, written anew, and nothing else of the body. What would have it read a
file or an address (its `FileData`) is refused; an uploaded picture of this server, which is what
`gradio_client`'s `handle_file` sends, is put in its place as a data URI.
"""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlm_dlm.errors import QueueFullError
from vlm_dlm_app.bodies import read_json
from vlm_dlm_app.errors import ApiError
from vlm_dlm_app.page.boundary import found_in
from vlm_dlm_app.page.handlers import Takes, form_of
from vlm_dlm_app.page.uploads import Uploads

if TYPE_CHECKING:
    from gradio import Blocks
    from gradio.block_function import BlockFunction

MAX_VALUES = 32  # arguments of one function
MAX_OPEN_CALLS = 32  # of one session, as long as nobody is told what came of them
MAX_FILES = 8  # of one call
MAX_ID = 2**31
Session = Annotated[str, Field(pattern=f"^{form_of('session_hash').pattern}$")]
Number = Annotated[int, Field(ge=0, lt=MAX_ID)]


class _Body(BaseModel):
    """Fields that are not named here change nothing and stay outside."""

    model_config = ConfigDict(extra="ignore")


class JoinBody(_Body):
    """A call by the function's number."""

    data: Annotated[list[Any], Field(max_length=MAX_VALUES)]
    fn_index: Number
    session_hash: Session
    event_data: Any = None
    trigger_id: Number | None = None
    batched: Literal[False] | None = None


class CallBody(_Body):
    """A call by the endpoint's name."""

    data: Annotated[list[Any], Field(max_length=MAX_VALUES)]
    session_hash: Session | None = None
    fn_index: None = None


class CancelBody(_Body):
    """The end of a call."""

    session_hash: Session
    fn_index: Number
    event_id: Annotated[str, Field(max_length=64)]


class ResetBody(_Body):
    """The same, by those who need not say whose."""

    event_id: Annotated[str, Field(max_length=64)] | None = None


class Calls:
    """Raises ApiError or RequestValidationError in place of a call that Gradio would choke on."""

    def __init__(self, app: ASGIApp, blocks: Blocks, uploads: Uploads) -> None:
        self.app = app
        self._blocks = blocks
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            checked = await self._checked(scope, receive)
            if checked is not None:
                body = await asyncio.to_thread(to_json, checked)
                length = (b"content-length", str(len(body)).encode())
                others = [pair for pair in scope["headers"] if pair[0] != length[0]]
                scope, receive = {**scope, "headers": [*others, length]}, _replay(body, receive)
        await self.app(scope, receive, send)

    async def _checked(self, scope: Scope, receive: Receive) -> Mapping[str, Any] | None:
        """What Gradio gets in place of the body; None for a handler without one of these."""
        takes = found_in(scope).handler.takes
        request = Request(scope, receive)
        if takes is Takes.JOIN:
            return await self._join(await _read(request, JoinBody))
        if takes is Takes.CALL:
            name = found_in(scope).places["api_name"]
            return await self._call(await _read(request, CallBody), name)
        if takes is Takes.CANCEL:
            return self._cancel(await _read(request, CancelBody))
        if takes is Takes.RESET:
            return {"event_id": (await _read(request, ResetBody)).event_id or ""}
        return None

    async def _join(self, body: JoinBody) -> Mapping[str, Any]:
        function = self._blocks.fns.get(body.fn_index)
        if function is None or function.fn is None:
            raise _wrong("fn_index", "names no function of this page")
        if len(body.data) != len(function.inputs):
            raise _wrong("data", f"must hold {len(function.inputs)} values, not {len(body.data)}")
        if body.trigger_id is not None and body.trigger_id not in self._blocks.blocks:
            raise _wrong("trigger_id", "names no part of this page")
        self._check_room(body.session_hash)
        data, event = await self._without_files(body.data, body.event_data)
        return {
            "data": data,
            "fn_index": body.fn_index,
            "session_hash": body.session_hash,
            "event_data": event,
            "trigger_id": body.trigger_id,
        }

    async def _call(self, body: CallBody, name: str) -> Mapping[str, Any]:
        function = self._named(name)
        least = sum(not part.skip_api for part in function.inputs)
        if len(body.data) not in (least, len(function.inputs)):
            raise _wrong("data", f"must hold {least} values, not {len(body.data)}")
        if body.session_hash is not None:
            self._check_room(body.session_hash)
        (data, _) = await self._without_files(body.data, None)
        return {"data": data, "session_hash": body.session_hash}

    def _named(self, name: str) -> BlockFunction:
        for function in self._blocks.fns.values():
            is_offered = function.fn is not None and function.api_visibility == "public"
            if is_offered and function.api_name == name:
                return function
        raise ApiError(404, "not_found", f"the page has no endpoint called {name}")

    def _cancel(self, body: CancelBody) -> Mapping[str, Any]:
        """Of another session nothing is ended, and nothing is told."""
        queue = self._blocks._queue  # pyright: ignore[reportPrivateUsage]
        is_own = body.event_id in queue.pending_event_ids_session.get(body.session_hash, ())
        return {
            "session_hash": body.session_hash,
            "fn_index": body.fn_index,
            "event_id": body.event_id if is_own else "",
        }

    def _check_room(self, session: str) -> None:
        queue = self._blocks._queue  # pyright: ignore[reportPrivateUsage]
        if len(queue.pending_event_ids_session.get(session, ())) >= MAX_OPEN_CALLS:
            raise QueueFullError(
                f"one session may have {MAX_OPEN_CALLS} calls whose answers nobody has read"
            )
        known = queue.pending_event_ids_session
        if len(known) > 2 * queue.pending_messages_per_session.max_size:
            for name in [n for n in known if n not in queue.pending_messages_per_session]:
                del known[name]  # nobody can be told any more

    async def _without_files(self, data: list[Any], event: Any) -> tuple[list[Any], Any]:
        files = _Files(self._uploads)
        # The walk is short where there is little, and off the loop where there is much.
        return await asyncio.to_thread(files.replaced, data), await asyncio.to_thread(
            files.replaced, event
        )


class _Files:
    """Puts uploaded pictures in the place of what names them."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._num_found = 0

    def replaced(self, value: Any) -> Any:
        """The same without files. Raises ApiError (422) for a file that is none of ours. Levels are
        bounded: the body was checked for them."""
        if isinstance(value, list):
            return [self.replaced(part) for part in cast("Sequence[Any]", value)]
        if not isinstance(value, dict):
            return value
        parts = cast("dict[str, Any]", value)
        if is_file(parts):
            return self._picture(parts)
        return {name: self.replaced(part) for name, part in parts.items()}

    def _picture(self, parts: Mapping[str, Any]) -> str:
        self._num_found += 1
        if self._num_found > MAX_FILES:
            raise _wrong("data", f"holds more files than the limit, which is {MAX_FILES}")
        path = parts.get("path")
        if not isinstance(path, str) or self._uploads.find(path) is None:
            raise _wrong("data", "names a file that was not uploaded here, or is no longer there")
        kind, content = self._uploads.read(path)
        return f"data:{kind.media_type};base64,{b64encode(content).decode('ascii')}"


def is_file(parts: Mapping[str, Any]) -> bool:
    """Whether Gradio, today or in a later version, could take it for one of its files."""
    meta = parts.get("meta")
    is_marked = isinstance(meta, dict) and "_type" in meta
    return is_marked or isinstance(parts.get("path"), str) or "is_stream" in parts


async def _read(request: Request, model: type[Any]) -> Any:
    return (await read_json(request, model)).body


def _wrong(name: str, sentence: str) -> ApiError:
    return ApiError(422, "invalid_value", f"{name} {sentence}", name)


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed
