"""Gradio's answers, taken whole so that they can be made once and kept for all who ask."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CHUNK_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Collected:
    """A whole answer. headers: as the application gave them."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    async def send_to(self, send: Send) -> None:
        """In pieces, each once the one before has left: a slow reader takes no memory."""
        start = {"type": "http.response.start", "status": self.status, "headers": self.headers}
        await send(start)
        body = memoryview(self.body)
        for begin in range(0, max(len(body), 1), _CHUNK_BYTES):
            end = begin + _CHUNK_BYTES
            is_last = end >= len(body)
            piece = bytes(body[begin:end])
            await send({"type": "http.response.body", "body": piece, "more_body": not is_last})


async def collected(app: ASGIApp, scope: Scope, receive: Receive) -> Collected | None:
    """What `app` answers; None where it ends before its answer does, as the client has left."""
    messages: list[Message] = []

    async def collect(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, collect)
    if len(messages) < 2 or messages[-1].get("more_body", False):
        return None
    body = b"".join(message.get("body", b"") for message in messages[1:])
    return Collected(messages[0]["status"], list(messages[0]["headers"]), body)


class KeptAnswers:
    """Answers by key. Of too many, what was asked for longest ago is dropped.

    max_cost: of all together; cost: of one of them.
    """

    def __init__(self, max_cost: int, cost: Callable[[Collected], int]) -> None:
        self._max_cost = max_cost
        self._cost = cost
        self._kept: OrderedDict[Hashable, Collected] = OrderedDict()
        self._making = asyncio.Lock()

    def keys(self) -> list[Hashable]:
        """The one that goes first comes first."""
        return list(self._kept)

    async def get(
        self, key: Hashable, make: Callable[[], Awaitable[Collected | None]]
    ) -> Collected | None:
        """What is kept, else what `make` gives, one at a time. It sends nothing: a reader that
        takes nothing would hold up all others."""
        found = self._found(key)
        if found is None:
            async with self._making:
                found = self._found(key) or await make()
        return found

    def keep(self, key: Hashable, answer: Collected) -> None:
        """For `make`, which alone knows what is worth it."""
        self._kept[key] = answer
        while sum(map(self._cost, self._kept.values())) > self._max_cost:
            self._kept.popitem(last=False)

    def _found(self, key: Hashable) -> Collected | None:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)
