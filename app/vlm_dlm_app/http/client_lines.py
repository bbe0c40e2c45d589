"""Who is next: round-robin over clients, first come first served within one."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class ClientLines(Generic[T]):
    """What waits, in one line per client. False where nothing does."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, client: str, waiting: T) -> None:
        """At the end of the client's line."""
        self._lines.setdefault(client, deque()).append(waiting)

    def take(self) -> T:
        """The next. Raises StopIteration where nothing waits."""
        client, line = next(iter(self._lines.items()))
        waiting = line.popleft()
        if line:
            self._lines.move_to_end(client)
        else:
            del self._lines[client]
        return waiting
