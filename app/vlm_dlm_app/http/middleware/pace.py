"""Requests begin one at a time, and clients take turns in that.

An event loop runs all that is ready before it looks for more: hundreds of requests that come at one
moment, each of them the work of some milliseconds, would keep everybody else for seconds.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from vlm_dlm_app.http.client_lines import ClientLines

# Of the loop, from one that begins to the next: most requests have done most of their work by then.
ROUNDS = 8


class Pace:
    """One request after the other goes on from here, in the order of `Starts`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._turns = Starts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._turns.take(scope.get("state", {}).get("client", ""))
        await self.app(scope, receive, send)


class Starts:
    """In the order of `ClientLines`. One event loop."""

    def __init__(self) -> None:
        self._waiting: ClientLines[asyncio.Future[None]] = ClientLines()
        self._num_rounds = 0  # until the next may begin

    async def take(self, client: str) -> None:
        """Wait for a turn; where nobody has just had one it is there at once."""
        loop = asyncio.get_running_loop()
        if not self._num_rounds:
            self._num_rounds = ROUNDS
            loop.call_soon(self._count_round)
            return
        turn = loop.create_future()
        self._waiting.add(client, turn)
        await turn

    def _count_round(self) -> None:
        self._num_rounds -= 1
        if not self._num_rounds and self._pass_on():
            self._num_rounds = ROUNDS
        if self._num_rounds:
            asyncio.get_running_loop().call_soon(self._count_round)

    def _pass_on(self) -> bool:
        """Whether anybody waited."""
        while self._waiting:
            turn = self._waiting.take()
            if not turn.done():  # as it is where who waited was cancelled
                turn.set_result(None)
                return True
        return False
