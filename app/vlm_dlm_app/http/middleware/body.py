"""Bodies: bounded in bytes, in time, in depth, and all of them together in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from io import BytesIO

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlm_dlm.errors import QueueFullError
from vlm_dlm_app.http.content_coding import Unpacker, unpacker_of
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.held_bytes import HOLD_KEY, HeldBytes, Hold
from vlm_dlm_app.http.json_shape import check_shape
from vlm_dlm_app.http.json_text import without_mark
from vlm_dlm_app.http.middleware.gate import SAFE_METHODS
from vlm_dlm_app.http.parsing import SMALL_BYTES, BodyWorker, effort_of
from vlm_dlm_app.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Limits of one body.

    max_bytes: packed and unpacked.
    limit_s: for it to arrive.
    """

    max_bytes: int
    max_depth: int
    limit_s: float


@dataclass(slots=True)
class _Reading:
    """One body.

    hold: as far as it counts against the limits of all.
    content: so far, grown in place, as two copies would be too much.
    num_packed_bytes: as it was sent, if it is packed.
    """

    client: str
    unpacker: Unpacker | None
    hold: Hold
    content: BytesIO = field(default_factory=BytesIO)
    num_bytes: int = 0
    num_packed_bytes: int = 0

    def taken(self) -> bytes:
        """The whole body, which is no longer held here."""
        content, self.content = self.content, BytesIO()
        return content.getvalue()


class Body:
    """Reads the whole body, unpacked, before the route runs; requests that have none pass. Larger
    bodies (smaller ones are bounded by connections) count in `held` while they are worked on.
    Raises ApiError (400, 408, 413, 415) or QueueFullError."""

    def __init__(
        self,
        app: ASGIApp,
        limits: BodyLimits,
        metrics: Metrics,
        worker: BodyWorker,
        held: HeldBytes,
    ) -> None:
        self.app = app
        self.limits = limits
        self.metrics = metrics
        self._worker = worker
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        self._check_length(headers)
        state = scope.setdefault("state", {})
        client = state.get("client", "")
        encoding = ",".join(headers.getlist("content-encoding"))
        hold = state[HOLD_KEY] = Hold(self._held, client)
        reading = _Reading(client, unpacker_of(encoding), hold)
        try:
            try:
                async with asyncio.timeout(self.limits.limit_s):
                    await self._read(receive, reading)
            except TimeoutError:
                limit = f"{self.limits.limit_s:g} s (body_s)"
                message = f"the body did not arrive in time; the limit is {limit}"
                raise ApiError("body_timeout", message) from None
            if reading.unpacker is not None:
                scope = with_body(scope, reading.num_bytes)
            body = reading.taken()
            if _is_json(headers):
                body = await self._checked(client, body)
            replayed = replay(body, receive)
            del body  # the route alone decides how long it is kept
            await self.app(scope, replayed, send)
        finally:
            if not hold.is_taken:
                hold.let_go()

    def _check_length(self, headers: Headers) -> None:
        """Refuse by the length that was announced, before anything is read."""
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise ApiError("bad_body", "the body could not be read")
        if len(length) > 15 or int(length) > self.limits.max_bytes:
            raise self._too_large()

    async def _read(self, receive: Receive, reading: _Reading) -> None:
        unpacker, has_more = reading.unpacker, True
        while has_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk: bytes = message.get("body", b"")
            has_more = message.get("more_body", False)
            if unpacker is None:
                self._add(reading, chunk)
            else:
                await self._unpack(reading, unpacker, chunk)
        if unpacker is not None:
            unpacker.finish()

    async def _unpack(self, reading: _Reading, unpacker: Unpacker, chunk: bytes) -> None:
        """Adds what is in the chunk, up to the limit and no further. What is packed may hold next
        to nothing, without end."""
        reading.num_packed_bytes += len(chunk)
        if reading.num_packed_bytes > self.limits.max_bytes:
            raise self._too_large()
        pieces = unpacker.pieces(chunk)
        while piece := await self._worker.run(
            reading.client, reading.num_bytes + len(chunk), lambda: next(pieces, b"")
        ):
            self._add(reading, piece)

    def _add(self, reading: _Reading, chunk: bytes) -> None:
        reading.num_bytes += len(chunk)
        if reading.num_bytes > self.limits.max_bytes:
            raise self._too_large()
        if reading.num_bytes > SMALL_BYTES:
            self._hold(reading)
        reading.content.write(chunk)

    def _hold(self, reading: _Reading) -> None:
        """Count what has come in. Raises QueueFullError where it is too much."""
        try:
            reading.hold.grow_to(reading.num_bytes)
        except QueueFullError:
            self.metrics.count_refusal(QueueFullError.code)
            raise

    async def _checked(self, client: str, body: bytes) -> bytes:
        """JSON that is safe to parse, without a mark before it."""
        body = without_mark(body)
        max_depth = self.limits.max_depth
        await self._worker.run(client, effort_of(body), lambda: check_shape(body, max_depth))
        return body

    def _too_large(self) -> ApiError:
        limit = self.limits.max_bytes
        return ApiError(
            "body_too_large",
            f"the body is larger than the limit of {limit} bytes (max_body_bytes)",
        )


def _is_json(headers: Headers) -> bool:
    content_type = headers.get("content-type", "")
    return not content_type or "json" in content_type.lower()


def with_body(scope: Scope, num_bytes: int) -> Scope:
    """The request as if it had been sent with a body of that size, not packed."""
    scope = {**scope, "headers": list(scope["headers"])}
    headers = MutableHeaders(scope=scope)
    del headers["content-encoding"]
    headers["content-length"] = str(num_bytes)
    return scope


def replay(body: bytes, receive: Receive) -> Receive:
    """The body in one message, then what else the server has to say: that the client left."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed
