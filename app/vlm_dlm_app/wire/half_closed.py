"""A client that sends no more: it may still wait for its answer, or have left.

Both look the same from here, until something is sent: who has left then resets the connection. The
first probe is a byte of TCP's urgent data, which a reader does not see in its stream, sent once, as
a second would push the first into it. Relays that hand a half-closed connection on hide who is
after them, and only data shows; later probes are therefore interim answers, which every reader of
HTTP/1.1 must skip, where the answer has not begun. What a stream sends is a probe by itself.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
FIRST_PROBE_S = 0.01
FIRST_LOOK_S, LOOK_S = 0.02, 0.1
INTERIM_S = 5.0


class HalfClosed:
    """Watches such a connection. is_silent: whether nothing of the answer that is due has been
    sent; takes_interim: whether its reader skips interim answers; on_left: is called once if the
    client has left. `stop` it when the connection is lost."""

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        is_silent: Callable[[], bool],
        takes_interim: Callable[[], bool],
        on_left: Callable[[], object],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._is_silent = is_silent
        self._takes_interim = takes_interim
        self._on_left = on_left
        # The transport watches for nothing any more, and hides the calls that are needed here.
        descriptor = os.dup(transport.get_extra_info("socket").fileno())
        self._socket = socket.socket(fileno=descriptor)
        self._poll = select.poll()
        self._poll.register(descriptor, 0)  # errors alone
        self._next_interim_s = loop.time() + INTERIM_S
        self._timer = loop.call_later(FIRST_PROBE_S, self._begin)

    def stop(self) -> None:
        self._timer.cancel()
        self._socket.close()

    def _begin(self) -> None:
        with suppress(OSError):
            self._socket.send(b"\n", socket.MSG_OOB)
        self._timer = self._loop.call_later(FIRST_LOOK_S, self._look)

    def _look(self) -> None:
        if self._poll.poll(0):
            self._on_left()
            return
        if self._loop.time() >= self._next_interim_s:
            self._next_interim_s += INTERIM_S
            if self._is_silent() and self._takes_interim():
                self._transport.write(INTERIM)
        self._timer = self._loop.call_later(LOOK_S, self._look)
