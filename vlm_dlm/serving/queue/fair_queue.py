"""Who waits, and who is next. Bounded, fair between clients, two priorities. No threads, no clock.

Fair means taking turns: a client with a hundred waiting requests is served as often as one with a
single request, and can fill no more than half of the queue, in requests and in tokens, so that
others still get in.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

from vlm_dlm.errors import QueueFullError
from vlm_dlm.shares import share_of

T = TypeVar("T")

# Of every so many requests one is a batch request while both kinds wait, so that none starves.
BATCH_TURN = 8


class Priority(IntEnum):
    """INTERACTIVE goes first; BATCH gets every eighth turn and all that is left over."""

    INTERACTIVE = 0
    BATCH = 1


@dataclass(frozen=True, slots=True, eq=False)
class Waiting(Generic[T]):
    """One waiting request.

    client: whose it is, an API key or an address.
    num_tokens: of its prompt.
    """

    item: T
    client: str
    num_tokens: int
    priority: Priority = Priority.INTERACTIVE


class FairQueue(Generic[T]):
    """Round-robin over clients within a priority, first come first served within a client."""

    def __init__(self, max_requests: int = 64, max_tokens: int = 65536) -> None:
        self.max_requests = max_requests
        self.max_tokens = max_tokens
        self.num_tokens = 0
        self._lanes: dict[Priority, OrderedDict[str, deque[Waiting[T]]]] = {
            priority: OrderedDict() for priority in Priority
        }
        self._num_interactive_turns = 0

    def __len__(self) -> int:
        return sum(len(line) for lane in self._lanes.values() for line in lane.values())

    @property
    def max_per_client(self) -> int:
        return share_of(self.max_requests)

    def check_room(self, client: str, num_tokens: int) -> None:
        """Raises QueueFullError if `push` would."""
        if len(self) >= self.max_requests:
            raise QueueFullError(
                f"{len(self)} requests are waiting; the limit is {self.max_requests} (max_waiting)"
            )
        if self.num_tokens + num_tokens > self.max_tokens and self.num_tokens:
            raise QueueFullError(
                f"{self.num_tokens} prompt tokens are waiting and {num_tokens} more were "
                f"sent; the limit is {self.max_tokens} (max_waiting_tokens)"
            )
        self._check_share(client, num_tokens)

    def _check_share(self, client: str, num_tokens: int) -> None:
        own = [waiting for lane in self._lanes.values() for waiting in lane.get(client, ())]
        if len(own) >= self.max_per_client:
            raise QueueFullError(
                f"{len(own)} of your requests are waiting; "
                f"the limit for one client is {self.max_per_client}, half of max_waiting"
            )
        limit = share_of(self.max_tokens, least=0)
        own_tokens = sum(waiting.num_tokens for waiting in own)
        if own and own_tokens + num_tokens > limit:
            raise QueueFullError(
                f"{own_tokens} prompt tokens of yours are waiting and {num_tokens} more were "
                f"sent; the limit for one client is {limit}, half of max_waiting_tokens"
            )

    def push(self, waiting: Waiting[T]) -> None:
        """Line up. Raises QueueFullError, and changes nothing, where there is no room."""
        self.check_room(waiting.client, waiting.num_tokens)
        line = self._lanes[waiting.priority].setdefault(waiting.client, deque())
        line.append(waiting)
        self.num_tokens += waiting.num_tokens

    def pop(
        self,
        has_room: Callable[[T], bool] = lambda _: True,
        gives_way: Callable[[T], bool] = lambda _: False,
    ) -> Waiting[T] | None:
        """Whose turn it is; the client goes to the end of its lane. None, and no change, if nobody
        waits or there is no room for that one: who comes later does not overtake it.

        gives_way: for an item that lets all go first that do not.
        """
        heads = [next(iter(line)) for lane in self._by_turn() for line in lane.values()]
        waiting = next((head for head in heads if not gives_way(head.item)), None)
        waiting = waiting or next(iter(heads), None)
        if waiting is None or not has_room(waiting.item):
            return None
        self._note_turn(waiting.priority)
        lane = self._lanes[waiting.priority]
        line = lane[waiting.client]
        line.popleft()
        if line:
            lane.move_to_end(waiting.client)
        else:
            del lane[waiting.client]
        self.num_tokens -= waiting.num_tokens
        return waiting

    def position(self, waiting: Waiting[T]) -> int | None:
        """Place in line from 1, if nobody else comes: one of each client's before it goes first,
        and all of a higher priority. None where it does not wait."""
        lane = self._lanes[waiting.priority]
        own = list(lane.get(waiting.client, ()))
        if waiting not in own:
            return None
        round_ = own.index(waiting)
        num_before, is_later = round_, False
        for client, line in lane.items():
            if client == waiting.client:
                is_later = True
            else:
                num_before += min(len(line), round_ + (not is_later))
        higher = [other for priority, other in self._lanes.items() if priority < waiting.priority]
        return 1 + num_before + sum(len(line) for other in higher for line in other.values())

    def remove(self, waiting: Waiting[T]) -> bool:
        """Leave the queue. False if it was not there, or not any more."""
        lane = self._lanes[waiting.priority]
        line = lane.get(waiting.client)
        if line is None or waiting not in line:
            return False
        line.remove(waiting)
        if not line:
            del lane[waiting.client]
        self.num_tokens -= waiting.num_tokens
        return True

    def _by_turn(self) -> list[OrderedDict[str, deque[Waiting[T]]]]:
        """Lanes in the order in which they are due."""
        lanes = list(self._lanes.values())
        return lanes[::-1] if self._num_interactive_turns >= BATCH_TURN - 1 else lanes

    def _note_turn(self, priority: Priority) -> None:
        is_passed_over = priority is Priority.INTERACTIVE and bool(self._lanes[Priority.BATCH])
        self._num_interactive_turns = self._num_interactive_turns + 1 if is_passed_over else 0
