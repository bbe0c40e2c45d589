"""The account of memory that what clients sent, and what they have not fetched, takes up."""

from __future__ import annotations

from dataclasses import dataclass
from sys import getsizeof
from typing import Any, cast

from pydantic import BaseModel

from vlm_dlm.errors import QueueFullError
from vlm_dlm.shares import Shares

# In the scope's state: what the body counts for, to whoever keeps it longer than the request.
HOLD_KEY = "body_hold"
NODE_BYTES = 64  # of a value that is no text
_PLAIN = (int, float, bool, type(None))


class HeldBytes:
    """max_bytes: of all together, half of it for one client, but always one body of
    `max_body_bytes`. For the event loop alone."""

    def __init__(self, max_bytes: int, max_body_bytes: int) -> None:
        self.max_bytes = max(max_bytes, max_body_bytes)
        self._shares = Shares(self.max_bytes, least=max_body_bytes)

    @property
    def num_bytes(self) -> int:
        return self._shares.total

    def add(self, client: str, num_bytes: int) -> None:
        """Raises QueueFullError where it would be too much; then nothing is counted."""
        is_full = self._shares.is_full(num_bytes)
        if is_full or self._shares.is_over(client, num_bytes):
            whose = "" if is_full else " for one client"
            raise QueueFullError(
                f"as much is held as fits into memory{whose} (max_held_body_bytes)"
            )
        self._shares.take(client, num_bytes)

    def take_off(self, client: str, num_bytes: int) -> None:
        """The memory is free again."""
        self._shares.give_back(client, num_bytes)


@dataclass(slots=True)
class Hold:
    """What one thing of a client's holds.

    is_taken: whether it outlives the request it came with, and who took it lets it go.
    """

    account: HeldBytes
    client: str
    num_bytes: int = 0
    is_taken: bool = False

    def grow_to(self, num_bytes: int) -> None:
        """Raises QueueFullError; then it is as large as before."""
        if num_bytes > self.num_bytes:
            self.account.add(self.client, num_bytes - self.num_bytes)
            self.num_bytes = num_bytes

    def shrink_to(self, num_bytes: int) -> None:
        """Part of it is free."""
        if num_bytes < self.num_bytes:
            self.account.take_off(self.client, self.num_bytes - num_bytes)
            self.num_bytes = num_bytes

    def let_go(self) -> None:
        """All of it is free; once is enough."""
        self.shrink_to(0)


def size_of(value: Any) -> int:
    """Bytes that it takes in memory, roughly; what stands in it twice counts twice."""
    num_bytes, rest = 0, [value]
    while rest:
        found = rest.pop()
        if isinstance(found, str | bytes):
            num_bytes += getsizeof(found)
            continue
        num_bytes += NODE_BYTES
        if isinstance(found, dict):
            parts = cast("dict[Any, Any]", found)
            rest += parts
            rest += parts.values()
        elif isinstance(found, BaseModel):
            rest += vars(found).values()
        elif isinstance(found, list | tuple):
            entries = cast("list[Any]", found)
            rich = [entry for entry in entries if type(entry) not in _PLAIN]  # few, of very many
            num_bytes += NODE_BYTES * (len(entries) - len(rich))
            rest += rich
    return num_bytes
