"""Connections take turns in being read, and clients take turns in that.

An event loop reads from all that have something before it does anything else, and a parser goes
through all that it gets. Neither knows what it costs: a body in chunks of a byte each is a hundred
times the work of one in large chunks, and five hundred connections may bring one each at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar, Protocol
from weakref import WeakKeyDictionary, ref

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vlm_dlm_app.http.client_lines import ClientLines

# Others have their turn after a read of that size; and after each slice of one that is rich in
# lines, as each head, header and chunk is one: some 256 of them, and those bytes at least.
LONG_READ_BYTES = 64 * 1024
SLICE_LINES = 256
SLICE_BYTES = 2 * 1024
# What all may have parsed in one round of the loop: less than 1 ms. A read is some work by itself.
ROUND_LINES = 512
READ_LINES = 32


class Waiting(Protocol):
    """A connection that is not being read."""

    def go_on(self) -> None:
        """Read a slice; `wait` again if that is not all."""
        ...


class Rounds:
    """Shares out each round of one event loop, in the order of `ClientLines`."""

    _of: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, Rounds]] = WeakKeyDictionary()

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        """call_soon: of the loop."""
        self._call_soon = call_soon
        self._left = ROUND_LINES
        self._waiting: ClientLines[Waiting] = ClientLines()
        self._is_next_due = False

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Rounds:
        """That of this loop."""
        if loop not in cls._of:
            itself = ref(loop)  # else it would keep itself
            cls._of[loop] = cls(lambda call: (found := itself()) and found.call_soon(call))
        return cls._of[loop]

    @property
    def has_room(self) -> bool:
        """Whether another slice may be read in this round."""
        return self._left > 0 and not self._waiting

    def spend(self, num_lines: int) -> None:
        """A slice of so many lines is read."""
        self._left -= READ_LINES + num_lines
        self._see_to_next()

    def wait(self, client: str, connection: Waiting) -> None:
        """It goes on when it is its turn."""
        self._waiting.add(client, connection)
        self._see_to_next()

    def _see_to_next(self) -> None:
        if not self._is_next_due:
            self._is_next_due = True
            self._call_soon(self._begin)

    def _begin(self) -> None:
        """A new round. Whoever waits again in it does so for the next."""
        self._is_next_due = False
        self._left = ROUND_LINES
        num_waiting = len(self._waiting)
        while self._left > 0 and num_waiting:
            num_waiting -= 1
            self._waiting.take().go_on()
        if self._waiting:
            self._see_to_next()


class _Flow(FlowControl):
    """uvicorn's, which lets the loop read on; here it is asked for a turn."""

    def __init__(self, transport: asyncio.Transport, on_resumed: Callable[[], None]) -> None:
        super().__init__(transport)
        self._on_resumed = on_resumed

    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self._on_resumed()


class TurnTakingProtocol(HttpToolsProtocol):
    """Calls `take` with what comes, in order, and `take_end` after it. What has come waits, too,
    while reading is paused. reader: the client in whose turns it is read."""

    flow: FlowControl  # pyright: ignore[reportIncompatibleVariableOverride]
    reader = ""
    _rest = b""
    _is_waiting = False  # it goes on by itself
    _is_at_end = False

    def take(self, data: bytes) -> None:
        raise NotImplementedError

    def take_end(self) -> bool:
        """Nothing more will come. Whether something is still to be sent."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self._on_resumed)
        self._rounds = Rounds.of(self.loop)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        if self._rounds.has_room and not self._is_waiting:
            self._take_slice()
        else:
            self._wait()

    def eof_received(self) -> bool:  # type: ignore[override]
        if self._is_waiting:
            self._is_at_end = True
            return True
        return self.take_end()

    def go_on(self) -> None:
        self._is_waiting = False
        if self.transport.is_closing():
            self._rest = b""
        elif not self.flow.read_paused:  # else from `_on_resumed`
            if self._rest:
                self._take_slice()
            self._listen()

    def _on_resumed(self) -> None:
        if self._rest and not self._is_waiting:
            self._wait()
        self._listen()

    def _listen(self) -> None:
        """Where nothing that has come is left to be read."""
        if self._is_waiting or self.flow.read_paused:
            return
        if not self._is_at_end:
            self.transport.resume_reading()
        elif not self.take_end():
            self.transport.close()

    def _take_slice(self) -> None:
        now, num_lines = len(self._rest), self._rest.count(b"\n")
        if num_lines > SLICE_LINES:
            now = max(SLICE_BYTES, now * SLICE_LINES // num_lines)
        data, self._rest = self._rest[:now], self._rest[now:]
        self._rounds.spend(data.count(b"\n"))
        self.take(data)
        if self._rest or now > LONG_READ_BYTES:
            self._wait()

    def _wait(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()
        if not self._is_waiting:
            self._is_waiting = True
            self._rounds.wait(self.reader, self)
