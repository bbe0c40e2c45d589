"""Bodies of calls, held to what Gradio's functions take before Gradio sees them.

Gradio gets what was checked, the values beside the body, and nothing else of it. What would have it
read a file or an address (its `FileData`) is refused; of an uploaded picture of this server, which
is what `gradio_client`'s `handle_file` sends, the name is left, and what takes a picture reads it.
"""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast
from uuid import uuid4

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json, to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlm_dlm_app.answering.image_sources import is_url
from vlm_dlm_app.http.bodies import read_json
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.held_bytes import HOLD_KEY, Hold, size_of
from vlm_dlm_app.http.middleware.body import replay, with_body
from vlm_dlm_app.http.parsing import BodyWorker
from vlm_dlm_app.page.aside import Values, with_values
from vlm_dlm_app.page.boundary import found_in
from vlm_dlm_app.page.handlers import Takes, form_of
from vlm_dlm_app.page.sessions import Sessions
from vlm_dlm_app.page.uploads import Uploads
from vlm_dlm_app.schemas.bounds import Argument

if TYPE_CHECKING:
    from gradio import Blocks
    from gradio.block_function import BlockFunction

MAX_VALUES = 32  # arguments of one function
CALL_BYTES = 2**14  # that Gradio keeps with a call
MAX_ID = 2**31
Session = Annotated[str, Field(pattern=f"^{form_of('session_hash').pattern}$")]
Number = Annotated[int, Field(ge=0, lt=MAX_ID)]


class _Body(BaseModel):
    """Fields that are not named here change nothing and stay outside."""

    model_config = ConfigDict(extra="ignore")


class JoinBody(_Body):
    """A call by the function's number."""

    data: Annotated[list[Argument], Field(max_length=MAX_VALUES)]
    fn_index: Number
    session_hash: Session
    event_data: Any = None
    trigger_id: Number | None = None
    batched: Literal[False] | None = None


class CallBody(_Body):
    """A call by the endpoint's name."""

    data: Annotated[list[Argument], Field(max_length=MAX_VALUES)]
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


@dataclass(frozen=True, slots=True)
class _Checked:
    """What Gradio gets in place of a body.

    session, passed: of a call, and its values, files still in them; None for what starts nothing.
    """

    values: Mapping[str, Any]
    session: str | None = None
    passed: Values | None = None


class Calls:
    """Raises ApiError, RequestValidationError or QueueFullError in place of a call that Gradio
    would choke on."""

    def __init__(
        self,
        app: ASGIApp,
        blocks: Blocks,
        uploads: Uploads,
        sessions: Sessions,
        worker: BodyWorker,
    ) -> None:
        self.app = app
        self._blocks = blocks
        self._uploads = uploads
        self._sessions = sessions
        self._worker = worker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        checked = await self._checked(scope, receive) if scope["type"] == "http" else None
        if checked is None:
            await self.app(scope, receive, send)
            return
        client, hold = scope["state"]["client"], scope["state"][HOLD_KEY]
        body = to_json(checked.values)
        if checked.session is not None and checked.passed is not None:
            passed = checked.passed
            values, size = await self._worker.run(
                client, hold.num_bytes, lambda: self._without_files(passed)
            )
            self._sessions.enter(checked.session, client)
            hold.grow_to(size + CALL_BYTES)
            scope, send = with_values(scope, values), self._noticing(hold, send)
        scope, receive = with_body(scope, len(body)), replay(body, receive)
        del body
        await self.app(scope, receive, send)

    def _without_files(self, values: Values) -> tuple[Values, int]:
        """The same, and how many bytes it takes in memory. Raises ApiError."""
        data = [_without_files(value, self._uploads) for value in values.data]
        event = _without_files(values.event, self._uploads)
        return Values(data, event), size_of((data, event))

    def _noticing(self, hold: Hold, send: Send) -> Send:
        """Whether a call was taken, and by which name."""
        is_taken, answer = False, b""

        async def noticed(message: Message) -> None:
            nonlocal is_taken, answer
            if message["type"] == "http.response.start":
                is_taken = message["status"] == 200
            elif is_taken:
                answer += message.get("body", b"")
                if not message.get("more_body", False):
                    self._sessions.keep(from_json(answer)["event_id"], hold)
            await send(message)

        return noticed

    async def _checked(self, scope: Scope, receive: Receive) -> _Checked | None:
        """None for a handler without one of these bodies."""
        takes = found_in(scope).handler.takes
        request = Request(scope, receive)
        if takes is Takes.JOIN:
            return self._join(await _read(request, JoinBody))
        if takes is Takes.CALL:
            name = found_in(scope).places["api_name"]
            return self._call(await _read(request, CallBody), name)
        if takes is Takes.CANCEL:
            return _Checked(self._cancel(await _read(request, CancelBody)))
        if takes is Takes.RESET:
            return _Checked({"event_id": (await _read(request, ResetBody)).event_id or ""})
        return None

    def _join(self, body: JoinBody) -> _Checked:
        function = self._blocks.fns.get(body.fn_index)
        if function is None or function.fn is None:
            raise _wrong("fn_index", "names no function of this page")
        if len(body.data) != len(function.inputs):
            raise _wrong("data", f"must hold {len(function.inputs)} values, not {len(body.data)}")
        if body.trigger_id is not None and body.trigger_id not in self._blocks.blocks:
            raise _wrong("trigger_id", "names no part of this page")
        values = {
            "data": [None] * len(body.data),
            "fn_index": body.fn_index,
            "session_hash": body.session_hash,
            "trigger_id": body.trigger_id,
        }
        return _Checked(values, body.session_hash, Values(body.data, body.event_data))

    def _call(self, body: CallBody, name: str) -> _Checked:
        function = self._named(name)
        least = sum(not part.skip_api for part in function.inputs)
        if len(body.data) not in (least, len(function.inputs)):
            raise _wrong("data", f"must hold {least} values, not {len(body.data)}")
        session = body.session_hash or uuid4().hex
        rest = iter(body.data)
        is_whole = len(body.data) == len(function.inputs)
        data = [next(rest) if is_whole or not part.skip_api else None for part in function.inputs]
        empty = {"data": [None] * len(data), "session_hash": session}
        return _Checked(empty, session, Values(data, None))

    def _named(self, name: str) -> BlockFunction:
        for function in self._blocks.fns.values():
            is_offered = function.fn is not None and function.api_visibility == "public"
            if is_offered and function.api_name == name:
                return function
        raise ApiError("not_found", f"the page has no endpoint called {name}")

    def _cancel(self, body: CancelBody) -> Mapping[str, Any]:
        """Of another session nothing is ended, and nothing is told."""
        queue = self._blocks._queue  # pyright: ignore[reportPrivateUsage]
        is_own = body.event_id in queue.pending_event_ids_session.get(body.session_hash, ())
        return {
            "session_hash": body.session_hash,
            "fn_index": body.fn_index,
            "event_id": body.event_id if is_own else "",
        }


def _without_files(value: Any, uploads: Uploads) -> Any:
    """The same with the name of an uploaded picture in the place of what Gradio would take for a
    file. Raises ApiError (400) for a file that is none of ours. Levels are bounded: the body was
    checked for them."""
    if isinstance(value, list):
        return [_without_files(part, uploads) for part in cast("Sequence[Any]", value)]
    if not isinstance(value, dict):
        return value
    parts = cast("dict[str, Any]", value)
    if not is_file(parts):
        return {name: _without_files(part, uploads) for name, part in parts.items()}
    path = parts.get("path")
    if isinstance(path, str) and (is_url(path) or uploads.find(path) is not None):
        return path  # fetched or read, if at all, where the picture is used, by our own rules
    raise _wrong("data", "names a file that was not uploaded here, or is no longer there")


def is_file(parts: Mapping[str, Any]) -> bool:
    """Whether Gradio, today or in a later version, could take it for one of its files."""
    meta = parts.get("meta")
    is_marked = isinstance(meta, dict) and "_type" in meta
    return is_marked or isinstance(parts.get("path"), str) or "is_stream" in parts


async def _read(request: Request, model: type[Any]) -> Any:
    return (await read_json(request, model)).body


def _wrong(name: str, sentence: str) -> ApiError:
    return ApiError("invalid_value", f"{name} {sentence}", name)
