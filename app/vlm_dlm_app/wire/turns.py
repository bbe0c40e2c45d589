"""Connections that take turns in being read.

A loop may go on reading from one as long as there is something, and a parser goes through all that
it gets. Neither knows what it costs: a body in chunks of a byte each is a hundred times the work of
one in large chunks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from uvicorn.protocols.http.flow_control import FlowControl

# Others have their turn behind a read of that size; and behind each slice of one that is rich in
# lines, as each head, header and chunk is one.
LONG_READ_BYTES = 64 * 1024
RICH_IN_LINES = 512
SLICE_BYTES = 8 * 1024


class TurnTakingProtocol(HttpToolsProtocol):
    """Calls `take` with what comes, in order."""

    flow: FlowControl  # pyright: ignore[reportIncompatibleVariableOverride]
    _rest = b""
    _is_resting = False  # it goes on by itself

    def take(self, data: bytes) -> None:
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        if self._rest or self._is_resting:  # somebody else let the loop read on
            self._rest += data
            self.transport.pause_reading()
        else:
            self._take_turn(data)

    def take_rest(self) -> None:
        """All that has come, now; nothing more will."""
        rest, self._rest = self._rest, b""
        if rest:
            self.take(rest)

    def _take_turn(self, data: bytes) -> None:
        now = len(data)
        if now > SLICE_BYTES and data.count(b"\n") > RICH_IN_LINES:
            now = SLICE_BYTES
        self._rest = data[now:]
        self.take(data[:now])
        if self._rest or now > LONG_READ_BYTES or self._is_resting:
            self._rest_a_turn()

    def _rest_a_turn(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()
        self._is_resting = True
        self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self.transport.is_closing():
            self._rest = b""
        elif self._rest:
            self._take_turn(self._rest)
        else:
            self._is_resting = False
            if not self.flow.read_paused:
                self.transport.resume_reading()
