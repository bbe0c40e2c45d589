"""One request and its answer, with what the framework's own lacks: HTTP/1.0, bodies that turn out
to be faulty once their route runs, and large answers that wait for their reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.middleware.gate import SAFE_METHODS

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent

NO_CONTENT = (204, 304)
# Of an answer, handed to the transport at a time. What is made in one piece could else lie there in
# full, of no account once its route is over, and a slow reader would have one time limit for all.
PIECE_BYTES = 2**16


class Exchange(RequestResponseCycle):
    """`fail`: the rest of the body cannot be read. The route learns it where it reads, so that the
    answer is made where all answers are."""

    fault: ApiError | None = None
    _ends_with_connection = False

    @property
    def is_over(self) -> bool:
        """Nothing more is to be sent."""
        return self.response_complete or self.disconnected

    def fail(self, error: ApiError) -> None:
        """End the connection with this answer. Routes that read no body answer as they would."""
        self.keep_alive = False
        self.more_body = False
        if self.scope["method"] not in SAFE_METHODS:
            self.fault = error
        self.message_event.set()
        if self.response_complete:
            self.transport.close()

    async def receive(self) -> ASGIReceiveEvent:
        message = await super().receive()
        if self.fault is not None and message["type"] == "http.request":
            raise self.fault
        return message

    async def send(self, message: ASGISendEvent) -> None:
        fields = cast("dict[str, Any]", message)
        if fields["type"] == "http.response.start" and not self.response_started:
            self._choose_framing(fields)
        if fields["type"] != "http.response.body":
            await super().send(message)
            return
        rest = memoryview(fields.get("body", b""))
        while len(rest) > PIECE_BYTES and not self.disconnected:
            await self._send_piece({**fields, "body": rest[:PIECE_BYTES], "more_body": True})
            rest = rest[PIECE_BYTES:]
        await self._send_piece({**fields, "body": rest})

    async def _send_piece(self, fields: dict[str, Any]) -> None:
        """Once there is room for it."""
        if self._ends_with_connection:
            self.expected_content_length = len(fields["body"])
        await super().send(cast("ASGISendEvent", fields))

    def _choose_framing(self, start: dict[str, Any]) -> None:
        if self.waiting_for_100_continue and self.more_body:
            # Nobody can tell whether the body still comes, or the next request.
            self.keep_alive = False
        if self.scope["http_version"] != "1.0":
            return
        names = {name.lower() for name, _ in start["headers"]}
        has_body = self.scope["method"] != "HEAD" and start["status"] not in NO_CONTENT
        if has_body and b"content-length" not in names:
            self.chunked_encoding = False
            self._ends_with_connection = True
            self.keep_alive = False
        if self.keep_alive:
            start["headers"] = [*start["headers"], (b"connection", b"keep-alive")]
