"""Who has a turn in the engine, and what is left for others. No threads, no clock.

An engine reserves cache for a request's worst case before it begins, so a turn costs cache as well
as a place. One that the cache has no room for would wait again inside the engine, where nobody
sees to fairness.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from vlm_dlm.answer_room import fit_answer
from vlm_dlm.decoding import find_mode
from vlm_dlm.engine.base import Capabilities
from vlm_dlm.errors import BadInputError
from vlm_dlm.request import GenerationRequest


@dataclass(frozen=True, slots=True)
class Turn:
    """client: whose it is. num_slots: cache that it may need."""

    client: str
    num_slots: int


class Turns:
    """max_running: turns at once. max_slots: of cache, None for no limit."""

    def __init__(self, max_running: int, max_slots: int | None = None) -> None:
        self.max_running = max_running
        self.max_slots = max_slots
        self.num_slots = 0
        self._num_by_client: Counter[str] = Counter()
        self._slots_by_client: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._num_by_client.total()

    def has_room(self, num_slots: int) -> bool:
        is_free = self.max_slots is None or self.num_slots + num_slots <= self.max_slots
        return is_free and len(self) < self.max_running

    def is_over_half(self, turn: Turn) -> bool:
        """Whether its client, who has turns already, would have more than half of all with it."""
        num, num_slots = self._num_by_client[turn.client], self._slots_by_client[turn.client]
        if not num:
            return False
        is_much = self.max_slots is not None and 2 * (num_slots + turn.num_slots) > self.max_slots
        return is_much or 2 * (num + 1) > self.max_running

    def take(self, turn: Turn) -> None:
        self.num_slots += turn.num_slots
        self._num_by_client[turn.client] += 1
        self._slots_by_client[turn.client] += turn.num_slots

    def give_back(self, turn: Turn) -> None:
        self.num_slots -= turn.num_slots
        self._num_by_client[turn.client] -= 1
        self._slots_by_client[turn.client] -= turn.num_slots
        if not self._num_by_client[turn.client]:
            del self._num_by_client[turn.client], self._slots_by_client[turn.client]


def slots_needed(request: GenerationRequest, engine: Capabilities) -> int:
    """Cache that the engine will set aside, in whole pages; 0 for a request that it will refuse.

    Raises ModeError for an unknown mode.
    """
    mode = find_mode(request.mode)
    params = mode.Params() if request.params is None else request.params
    if engine.max_cache_tokens is None or not isinstance(params, mode.Params):
        return 0
    num_prompt, num_rows = len(request.prompt.token_ids), mode().max_query_len(params)
    num_room = engine.max_cache_tokens - num_rows
    try:
        sampling = fit_answer(request.sampling, num_prompt, engine.max_context, num_room)
    except BadInputError:
        return 0
    needed = num_prompt + (sampling.max_tokens or 0) + num_rows
    num_slots = -(-needed // engine.page_size) * engine.page_size
    return num_slots if num_slots <= engine.max_cache_tokens else 0
