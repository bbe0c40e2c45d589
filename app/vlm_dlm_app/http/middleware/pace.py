"""Requests begin one at a time, and clients take turns in that.

An event loop runs all that is ready before it looks for more: hundreds of requests that come at one
moment, each of them the work of some milliseconds, would keep everybody else for seconds.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

from starlette.types import ASGIApp, Receive, Scope, Send

# Of the loop, from one that begins to the next: most requests have done most of their work by then.
ROUNDS = 8


class Pace:
    """One request after the other goes on from here, in the order of `Turns`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._turns = Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._turns.take(scope.get("state", {}).get("client", ""))
        await self.app(scope, receive, send)


class Turns:
    """Round-robin over clients, first come first served within a client. One event loop."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._num_rounds = 0  # until the next may begin

    async def take(self, client: str) -> None:
        """Wait for a turn; where nobody has just had one it is there at once."""
        loop = asyncio.get_running_loop()
        if not self._num_rounds:
            self._num_rounds = ROUNDS
            loop.call_soon(self._count_round)
            return
        turn = loop.create_future()
        self._lines.setdefault(client, deque()).append(turn)
        await turn

    def _count_round(self) -> None:
        self._num_rounds -= 1
        if not self._num_rounds and self._pass_on():
            self._num_rounds = ROUNDS
        if self._num_rounds:
            asyncio.get_running_loop().call_soon(self._count_round)

    def _pass_on(self) -> bool:
        """Whether anybody waited."""
        while self._lines:
            client, line = next(iter(self._lines.items()))
            turn = line.popleft()
            if line:
                self._lines.move_to_end(client)
            else:
                del self._lines[client]
            if not turn.done():  # as it is where who waited was cancelled
                turn.set_result(None)
                return True
        return False
