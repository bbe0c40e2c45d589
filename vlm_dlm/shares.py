"""What one client may have of what all clients share: half, so that others still get in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager


def share_of(whole: int, least: int = 1) -> int:
    """One client's part of `whole`; `least` where half would be too little to be of any use."""
    return max(whole // 2, least)


class Shares:
    """Who has how much of it. limit: of all together, None for none. least: see `share_of`.

    No threads, no clock.
    """

    def __init__(self, limit: int | None, least: int = 1) -> None:
        self.limit = limit
        self.limit_each = None if limit is None else share_of(limit, least)
        self._taken: Counter[str] = Counter()  # without those who have nothing

    @property
    def total(self) -> int:
        """Of all together."""
        return self._taken.total()

    def of(self, client: str) -> int:
        """What this one has."""
        return self._taken[client]

    def is_full(self, amount: int = 1) -> bool:
        """Whether so much more would be too much for all together."""
        return self.limit is not None and self.total + amount > self.limit

    def is_over(self, client: str, amount: int = 1) -> bool:
        """Whether so much more would be too much for this one."""
        return self.limit_each is not None and self.of(client) + amount > self.limit_each

    def take(self, client: str, amount: int = 1) -> None:
        """Count it; whether there is room is for the caller to ask before."""
        self._taken[client] += amount

    def give_back(self, client: str, amount: int = 1) -> None:
        """The contrary."""
        self._taken[client] -= amount
        if not self._taken[client]:
            del self._taken[client]

    @contextmanager
    def taken(self, client: str) -> Generator[None]:
        """One of them, for as long as this lasts."""
        self.take(client)
        try:
            yield
        finally:
            self.give_back(client)
