"""uvicorn's HTTP/1.1 connection with bounds it lacks, on heads, on the time one may take and on how
many there are, and with one sound end for everything that a client can do to it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.wire.connections import Connections
from vlm_dlm_app.wire.countdown import Countdown
from vlm_dlm_app.wire.exchange import Exchange
from vlm_dlm_app.wire.framing import TOO_SMALL, Framing
from vlm_dlm_app.wire.half_closed import HalfClosed
from vlm_dlm_app.wire.joined_writes import JoinedWrites
from vlm_dlm_app.wire.raw_answer import refuse
from vlm_dlm_app.wire.request_head import (
    BAD_FRAMING,
    BAD_REQUEST,
    MAX_HEADERS,
    NO_HTTP2,
    TOO_LARGE,
    TOO_MANY,
    Target,
    read_head,
)
from vlm_dlm_app.wire.turns import TurnTakingProtocol
from vlm_dlm_app.wire.upgrades import plain_head

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

MAX_PIPELINED = 64
# Who is refused may still be sending: closed at once, the answer would be lost on the way.
LINGER_S = 1.0
# Connections beyond the limits that are told so at one time; others are just ended.
MAX_REFUSED = 64
_PIPELINE_FULL = ApiError(
    "over_limit", f"at most {MAX_PIPELINED} requests may wait on one connection"
)
_CUT_SHORT = ApiError("client_left", "the client left before its request was complete")


class BoundedProtocol(TurnTakingProtocol):
    """Refuses heads that are too large, and connections that are too many. Drops those that take
    longer than `head_s` to send a head, and readers who do not take what waits, a piece at most,
    within `send_s`; to the route those have left, and what it does for them ends.

    Upgrades are ignored. What is no HTTP gets one answer in our form, after those that are due."""

    head_s = 10.0
    send_s = 30.0
    registry = Connections(max_all=1024, max_client=1024)

    _is_deaf = False  # whatever else comes is dropped
    _is_in_head = False
    _is_in_body = False
    _is_replaying = False
    _refusal = BAD_REQUEST
    _due_refusal: ApiError | None = None  # once the answers before it are given
    _current: Exchange | None = None  # the one being answered
    _half_closed: HalfClosed | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.set_write_buffer_limits(high=0)  # however little waits has a time limit
        super().connection_made(JoinedWrites(transport, self.loop))
        address = self.client[0] if self.client else ""
        self.reader = self.registry.client_of(address)
        self._framing = Framing()
        self._patience = Countdown(self.loop, self.transport.abort)  # with who sends
        self._reader = Countdown(self.loop, self.transport.abort)  # has to take something
        error = self.registry.add(self, address)
        if error is None:
            self._patience.start(self.head_s)
        elif self.registry.num_refused > MAX_REFUSED:
            self.transport.abort()
        else:
            self._refuse(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.registry.remove(self)
        self._patience.stop()
        self._reader.stop()
        if self._half_closed is not None:
            self._half_closed.stop()
        if self._current is not None:  # with requests after it, it is not the newest
            self._current.disconnected = True
            self._current.message_event.set()
        super().connection_lost(exc)

    def close_idle(self) -> None:
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader.start(self.send_s)

    def resume_writing(self) -> None:
        self._reader.stop()
        super().resume_writing()

    def take_end(self) -> bool:
        if self._half_closed is not None or self.transport.is_closing():
            return False
        if not self._is_deaf and (self._is_in_head or self._is_in_body):
            self._refusal = _CUT_SHORT if self._is_in_body else BAD_REQUEST
            self._give_up()
        if self.transport.is_closing():
            return False
        if self._current is None:
            self.transport.close()  # itself: what was just written is not on its way yet
            return False
        self._half_closed = HalfClosed(
            self.transport,
            self.loop,
            is_silent=lambda: self._current is not None and not self._current.response_started,
            takes_interim=lambda: (
                self._current is not None and self._current.scope["http_version"] != "1.0"
            ),
            on_left=self.transport.abort,
        )
        return True

    # Reading

    def take(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._framing.begin(len(data))
        self._feed(data)
        if not self._is_deaf and self._framing.is_too_much():
            self._refusal = TOO_LARGE
            self._give_up()

    def _feed(self, data: bytes) -> None:
        rest = data
        try:
            while rest:
                try:
                    self.parser.feed_data(rest)
                    return
                except httptools.HttpParserUpgrade as upgrade:
                    rest = rest[upgrade.args[0] :]
                    self._read_on()
        except httptools.HttpParserError:
            if self.parser.get_method() == b"PRI":  # how HTTP/2 begins
                self._refusal = NO_HTTP2
            self._give_up()

    def _read_on(self) -> None:
        """The parser takes what follows a request for an upgrade to be another protocol. Nothing is
        upgraded here, so a new one goes on after the same head without that request."""
        self.parser, asked = httptools.HttpRequestParser(self), self.parser
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._is_replaying = True
        self.parser.feed_data(plain_head(asked, self.headers))

    def on_message_begin(self) -> None:
        if self._is_replaying:
            return
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self.registry.note_busy(self)
        self._is_in_head = True
        if len(self.pipeline) >= MAX_PIPELINED:
            self._refusal = _PIPELINE_FULL
            raise ValueError("too many requests wait")  # the parser stops and says so
        self._patience.start(self.head_s)

    def on_url(self, url: bytes) -> None:
        if not self._is_replaying:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_in_head:  # trailers, which nobody asked for; or a replay
            return
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            self._refusal = TOO_MANY
            raise ValueError("too many headers")

    def on_headers_complete(self) -> None:
        if self._is_replaying:
            self._is_replaying = False
            return
        self._framing.note_head()
        method, version = self.parser.get_method(), self.parser.get_http_version()
        try:
            target = read_head(method, version, self.url, self.headers)
        except ApiError as error:
            self._refusal = error
            raise
        self._patience.stop()
        self._is_in_head, self._is_in_body = False, True
        self._begin(method.decode("ascii"), version, target)

    def _begin(self, method: str, version: str, target: Target) -> None:
        if target.authority is not None:
            self.headers[:] = [header for header in self.headers if header[0] != b"host"]
            self.headers.insert(0, (b"host", target.authority))
        self.scope["method"] = method
        self.scope["http_version"] = version
        self.scope["path"] = self.root_path + target.path
        self.scope["raw_path"] = self.root_path.encode("ascii") + target.raw_path
        self.scope["query_string"] = target.query
        self.cycle = Exchange(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue and version != "1.0",
            keep_alive=self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        app = cast("ASGI3Application", self.app)  # pyright: ignore[reportUnknownMemberType]
        if self._current is None:
            self._start_asgi_task(self.cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, app))

    def on_body(self, body: bytes) -> None:
        if not self._framing.note_content(len(body), is_awaited=not self.cycle.response_complete):
            raise ValueError("nobody waits for it")
        super().on_body(body)

    def on_chunk_header(self) -> None:
        if self._framing.is_flooded():
            self._refusal = TOO_SMALL
            raise ValueError("too many chunks")

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():  # its body is still to come
            return
        self._framing.note_end()
        self._is_in_body = False
        super().on_message_complete()
        if self._current is None:  # answered before it was all here
            self._patience.stop()
            self.registry.note_idle(self)

    # Answering

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._current = cast(Exchange, cycle)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._current = None
        super().on_response_complete()
        if self._current is not None or self.transport.is_closing():
            return
        if self._due_refusal is not None:
            self._refuse(self._due_refusal)
        elif self._half_closed is not None:
            self.transport.close()
        elif self._is_in_body:  # of the request that was just answered
            self._patience.start(self.send_s)
        elif not self._is_in_head:
            self.registry.note_idle(self)

    def send_400_response(self, msg: str) -> None:
        self._give_up()

    def _give_up(self) -> None:
        """What comes cannot be understood any more: say so where an answer is due for it."""
        self._is_deaf = True
        if self._is_in_body:
            is_framing = self._refusal is BAD_REQUEST
            cast(Exchange, self.cycle).fail(BAD_FRAMING if is_framing else self._refusal)
        elif self._current is None:
            self._refuse(self._refusal)
        else:
            self._due_refusal = self._refusal

    def _refuse(self, error: ApiError) -> None:
        """Answer for the connection itself, and end it."""
        self._is_deaf = True
        self.transport.write(refuse(error))
        if self._half_closed is not None:
            self.transport.close()
        else:
            self.transport.write_eof()
            self._patience.start(LINGER_S)


def bounded_protocol(send_s: float, registry: Connections) -> type[BoundedProtocol]:
    """The class with that patience, as uvicorn makes its connections from a class."""
    parts: dict[str, Any] = {"send_s": send_s, "registry": registry}
    return type("BoundedProtocol", (BoundedProtocol,), parts)
