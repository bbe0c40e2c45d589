"""How many connections there may be: of one client, and of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.networks import network_of

# All proxies that are trusted: what comes from them comes from many clients.
PROXIES = "proxies"


class Closable(Protocol):
    """A connection, as far as it must be known here."""

    def close_idle(self) -> None:
        """End it; it does nothing for anybody."""
        ...


class Connections:
    """Counts them. Where there are too many, the one that has been idle longest makes room.

    max_all: of all clients. max_client: of one address, or one network of IPv6. is_proxy: whether
    an address is a trusted proxy's, which may have as many as all.
    """

    def __init__(
        self,
        max_all: int,
        max_client: int,
        is_proxy: Callable[[str], bool] = lambda address: False,
    ) -> None:
        self._is_proxy = is_proxy
        self.max_all = max_all
        self.max_client = max_client
        self._clients: dict[Closable, str] = {}
        self._num_of: Counter[str] = Counter()  # without those who have none
        self._idle: dict[Closable, None] = {}  # the longest idle first
        self._refused: set[Closable] = set()

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def num_refused(self) -> int:
        """Those for which there was no room, and which are not removed yet."""
        return len(self._refused)

    def client_of(self, address: str) -> str:
        """Whose a connection from there is."""
        return PROXIES if self._is_proxy(address) else network_of(address)

    def add(self, connection: Closable, address: str) -> ApiError | None:
        """Count it in, or say why there is no room for it. `remove` it in either case."""
        client = self.client_of(address)
        error = self._lack_of_room(client)
        if error is not None:
            self._refused.add(connection)
            return error
        self._clients[connection] = client
        self._num_of[client] += 1
        return None

    def _lack_of_room(self, client: str) -> ApiError | None:
        is_bounded = client != PROXIES and self._num_of[client] >= self.max_client
        if is_bounded and not self._make_room(client):
            message = (
                f"your address has {self.max_client} connections open, which is the limit; "
                "the setting max_client_connections allows more"
            )
            return ApiError("too_many_connections", message, retry_after_s=1)
        if len(self._clients) >= self.max_all and not self._make_room():
            message = (
                f"{self.max_all} connections are open, which is the limit; "
                "the setting max_connections allows more"
            )
            return ApiError("connections_exhausted", message, retry_after_s=1)
        return None

    def remove(self, connection: Closable) -> None:
        """It is over. Safe to call twice, and for one that was never counted."""
        self._idle.pop(connection, None)
        self._refused.discard(connection)
        client = self._clients.pop(connection, None)
        if client is not None:
            self._num_of[client] -= 1
            if not self._num_of[client]:
                del self._num_of[client]

    def note_idle(self, connection: Closable) -> None:
        """It waits for its client's next request."""
        if connection in self._clients:
            self._idle[connection] = None

    def note_busy(self, connection: Closable) -> None:
        """It no longer does."""
        self._idle.pop(connection, None)

    def _make_room(self, client: str | None = None) -> bool:
        """Whether one was idle, and is no more. client: only of this one."""
        found = (c for c in self._idle if client is None or self._clients[c] == client)
        connection = next(found, None)
        if connection is None:
            return False
        self.remove(connection)
        connection.close_idle()
        return True
