"""Who may wait, who runs next, and with how many rows. Knows queues, rows and pages; no tensor.

There is no prefill phase and no decode phase: a request wants a number of rows. A mode's plan is
never split; a prompt is cut to what is left of the budget, and to less while others write, so a
long one never stalls their tokens.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from vlm_dlm.answer_room import cache_needed, fit_answer
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.pages import PageAllocator, PageTable
from vlm_dlm.engine.prompt_cache import PromptCache
from vlm_dlm.engine.request_state import RequestState
from vlm_dlm.errors import CapacityError, PromptError
from vlm_dlm.request import GenerationRequest, PromptInput

WIDE = 4  # times the rows of the narrowest plan, and more


@dataclass(frozen=True, slots=True)
class Grant:
    """Rows of one request in the next forward: a piece of its prompt, or its whole plan."""

    state: RequestState
    num_rows: int


class Scheduler:
    """First come, first served; running requests before new ones."""

    def __init__(
        self, config: EngineConfig, allocator: PageAllocator, prompts: PromptCache
    ) -> None:
        self.config = config
        self.allocator = allocator
        self.prompts = prompts
        self.waiting: deque[RequestState] = deque()
        self.running: list[RequestState] = []
        self._is_share_due = False

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    @property
    def num_plan_rows(self) -> int:
        """Rows of all plans that wait for a forward."""
        return sum(len(s.plan.token_ids) for s in self.running if s.plan is not None)

    @property
    def next_with_image(self) -> RequestState | None:
        """Whose images are to be encoded next, in the order of arrival."""
        return next((s for s in self.running if s.next_image is not None), None)

    def admit(self) -> list[RequestState]:
        """Move waiting requests to running while their worst case fits into the cache."""
        admitted: list[RequestState] = []
        while self.waiting and len(self.running) < self.config.max_running:
            state = self.waiting[0]
            pages = self._take_pages(self.allocator.pages_for(state.max_cache_len))
            if pages is None:
                break
            state.table = PageTable(self.allocator, pages)
            self.running.append(self.waiting.popleft())
            admitted.append(state)
        return admitted

    def _take_pages(self, num_pages: int) -> list[int] | None:
        """Kept prompts make room, the oldest first."""
        pages = self.allocator.take(num_pages)
        while pages is None and self.prompts.drop_oldest():
            pages = self.allocator.take(num_pages)
        return pages

    def schedule(self) -> list[Grant]:
        """Plans, then pieces of prompts in the order of arrival, within the row budget.

        Where the plans left the prompts short of their share, up to half of the budget, that share
        is set aside in the next step.
        """
        plans = [state for state in self.running if not state.is_prefilling]
        prompts = [state for state in self.running if state.is_prefilling]
        budget, limit = self.config.max_batched_tokens, self.config.max_prompt_rows
        if plans:
            limit = min(limit, self.config.max_prompt_rows_beside)
        wanted = sum(state.num_rows_wanted for state in prompts)
        share = min(wanted, limit, max(1, budget // 2))
        grants = self._grant_plans(plans, budget - share if self._is_share_due else budget)
        budget -= sum(grant.num_rows for grant in grants)
        pieces = _grant_pieces(prompts, min(budget, limit))
        self._is_share_due = sum(piece.num_rows for piece in pieces) < share
        return grants + pieces

    def _grant_plans(self, plans: list[RequestState], budget: int) -> list[Grant]:
        """Whole plans; who is left out comes first in the next step.

        Wide ones take turns while a narrow one writes, so that its tokens do not wait for all.
        """
        grants: list[Grant] = []
        left_out: list[RequestState] = []
        narrow = WIDE * min((state.num_rows_wanted for state in plans), default=0)
        num_wide = 0  # rows; one plan always goes
        for state in plans:
            num_rows = state.num_rows_wanted
            wide = num_rows if num_rows > narrow else 0
            is_in_turn = not num_wide or num_wide + wide <= self.config.max_plan_rows_beside
            if num_rows <= budget and (is_in_turn or not wide):
                budget -= num_rows
                num_wide += wide
                grants.append(Grant(state, num_rows))
            else:
                left_out.append(state)
        if left_out:
            self.running.sort(key=lambda state: state not in left_out)
        return grants

    def remove(self, state: RequestState) -> None:
        """Forget a request in any state and free what it holds."""
        if state in self.running:
            self.running.remove(state)
        elif state in self.waiting:
            self.waiting.remove(state)
        state.release()


def _grant_pieces(prompts: list[RequestState], budget: int) -> list[Grant]:
    """As much of each prompt as there is budget for."""
    grants: list[Grant] = []
    for state in prompts:
        if budget <= 0:
            break
        num_rows = min(budget, state.num_rows_wanted)
        if num_rows:
            budget -= num_rows
            grants.append(Grant(state, num_rows))
    return grants


def check_prompt(prompt: PromptInput, image_token_id: int | None) -> None:
    """Raises PromptError for a prompt that is empty, or at odds with its images."""
    if len(prompt.token_ids) == 0:
        raise PromptError("the prompt is empty")
    num_pads = 0 if image_token_id is None else prompt.token_ids.count(image_token_id)
    if num_pads != prompt.num_image_tokens:
        raise PromptError(
            f"the prompt has {num_pads} image placeholders for "
            f"{prompt.num_image_tokens} image features"
        )


def reserved(
    request: GenerationRequest, max_rows: int, max_context: int, config: EngineConfig
) -> tuple[int, int]:
    """Most tokens of the answer, and most cache slots that the request can ever need, whose widest
    plan has `max_rows` rows.

    Raises ContextLengthError where the context is too short for it, CapacityError where the engine
    is too small.
    """
    if max_rows > config.max_batched_tokens:
        raise CapacityError(
            f"one step needs {max_rows} rows; this engine runs {config.max_batched_tokens}"
        )
    num_prompt, available = len(request.prompt.token_ids), config.num_slots
    max_tokens = fit_answer(
        request.sampling, num_prompt, max_context, available, max_rows
    ).max_tokens
    assert max_tokens is not None, "it has been fitted"
    needed = cache_needed(num_prompt, max_tokens, max_rows)
    if needed > available:
        raise CapacityError(
            f"the request needs cache for {needed} tokens; this engine has {available}"
        )
    return max_tokens, needed
