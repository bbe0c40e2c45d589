"""Who has a turn in the engine, and what is left for others. No threads, no clock.

An engine reserves cache for a request's worst case before it begins, so a turn costs cache as well
as a place. One that the cache has no room for would wait again inside the engine, where nobody
sees to fairness.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlm_dlm.answer_room import cache_needed, fit_answer
from vlm_dlm.decoding import find_mode
from vlm_dlm.engine.base import Capabilities
from vlm_dlm.errors import BadInputError
from vlm_dlm.request import GenerationRequest
from vlm_dlm.shares import Shares


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn in the engine.

    client: whose it is.
    num_slots: cache that it may need.
    """

    client: str
    num_slots: int


class Turns:
    """max_running: turns at once. max_slots: of cache, None for no limit."""

    def __init__(self, max_running: int, max_slots: int | None = None) -> None:
        self._places = Shares(max_running)
        self._slots = Shares(max_slots, least=0)

    def __len__(self) -> int:
        return self._places.total

    @property
    def num_slots(self) -> int:
        """Of cache that is set aside."""
        return self._slots.total

    def has_room(self, num_slots: int) -> bool:
        return not self._slots.is_full(num_slots) and not self._places.is_full()

    def is_over_half(self, turn: Turn) -> bool:
        """Whether its client, who has turns already, would have more than half of all with it."""
        client, num_slots = turn.client, turn.num_slots
        is_much = self._slots.is_over(client, num_slots) or self._places.is_over(client)
        return self._places.of(client) > 0 and is_much

    def take(self, turn: Turn) -> None:
        self._places.take(turn.client)
        self._slots.take(turn.client, turn.num_slots)

    def give_back(self, turn: Turn) -> None:
        self._places.give_back(turn.client)
        self._slots.give_back(turn.client, turn.num_slots)


def slots_needed(request: GenerationRequest, engine: Capabilities) -> int:
    """Cache that the engine will set aside, in whole pages; 0 for a request that it will refuse.

    Raises ModeError for an unknown mode.
    """
    mode = find_mode(request.mode)
    params = mode.Params() if request.params is None else request.params
    if engine.max_cache_tokens is None or not isinstance(params, mode.Params):
        return 0
    num_prompt, num_rows = len(request.prompt.token_ids), mode().max_query_len(params)
    num_slots = engine.max_cache_tokens
    try:
        sampling = fit_answer(request.sampling, num_prompt, engine.max_context, num_slots, num_rows)
    except BadInputError:
        return 0
    needed = cache_needed(num_prompt, sampling.max_tokens or 0, num_rows)
    in_pages = -(-needed // engine.page_size) * engine.page_size
    return in_pages if in_pages <= num_slots else 0
