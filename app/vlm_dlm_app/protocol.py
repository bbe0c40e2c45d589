"""uvicorn's HTTP/1.1 connection with bounds it lacks: on heads, and on the time one may take."""

from __future__ import annotations

import asyncio
import json
import logging
from http import HTTPStatus
from uuid import uuid4

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from vlm_dlm_app.errors import ApiError, error_body
from vlm_dlm_app.joined_writes import JoinedWrites
from vlm_dlm_app.middleware.envelope import ID_HEADER, SECURITY_HEADERS

logger = logging.getLogger("vlm_dlm_app.requests")
# Of a request's first line and headers, and of anything else that is not body (trailers, the
# framing of chunks): a parser keeps those until they are complete.
MAX_HEAD_BYTES = 64 * 1024
_BAD = ApiError(400, "bad_request", "this is not a valid HTTP request")
_TOO_LARGE = ApiError(431, "headers_too_large", f"headers may have {MAX_HEAD_BYTES} bytes")


class BoundedProtocol(HttpToolsProtocol):
    """Refuses heads that are too large. Drops connections that take longer than `head_s` to send
    one, and readers who take nothing of what waits for them for `send_s`; to the route those have
    left, and what it does for them ends."""

    head_s = 10.0
    send_s = 30.0

    _num_idle_bytes = 0
    _has_progress = False
    _refusal = _BAD
    _head_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(JoinedWrites(transport, self.loop))
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._stop_send_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_send_timer()
        self._send_timer = self.loop.call_later(self.send_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_send_timer()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        self._has_progress = False
        super().data_received(data)
        self._num_idle_bytes = 0 if self._has_progress else self._num_idle_bytes + len(data)
        if self._num_idle_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refusal = _TOO_LARGE
            self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        self._has_progress = True
        num_bytes = sum(len(name) + len(value) for name, value in self.headers) + len(self.url)
        if num_bytes > MAX_HEAD_BYTES:
            self._refusal = _TOO_LARGE
            raise ValueError("the head is too large")  # the parser stops and asks for a 400
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._has_progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._has_progress = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """In place of the framework's plain text: a body like that of all errors."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:  # pyright: ignore
            request_id = uuid4().hex  # whatever it named itself cannot be trusted, if it was read
            self.transport.write(_raw_answer(self._refusal, request_id))
            status, code = self._refusal.status, self._refusal.code
            logger.info("request request=%s status=%d cause=%s", request_id, status, code)
        self.transport.close()

    def _await_head(self) -> None:
        self._stop_head_timer()
        self._head_timer = self.loop.call_later(self.head_s, self.transport.abort)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None


def bounded_protocol(send_s: float) -> type[BoundedProtocol]:
    """The class with that patience, as uvicorn makes its connections from a class."""
    return type("BoundedProtocol", (BoundedProtocol,), {"send_s": send_s})


def _raw_answer(error: ApiError, request_id: str) -> bytes:
    body = json.dumps(error_body(error)).encode()
    headers = {
        **SECURITY_HEADERS,
        ID_HEADER: request_id,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body
