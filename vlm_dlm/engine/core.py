"""The engine without threads: schedule, run, update, one step at a time.

Owns stop rules (end token, length), text, counts and the promise that every request ends in exactly
one terminal event, whatever fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter

import torch
from torch import Tensor

from vlm_dlm.decoding import MODES, ModeRequest, find_mode
from vlm_dlm.decoding.filters import RowFilter
from vlm_dlm.decoding.penalties import penalties_of
from vlm_dlm.engine.bookkeeping import book, failed, finished, started
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.execution import Execution
from vlm_dlm.engine.pages import PageAllocator, PageTable
from vlm_dlm.engine.prompt_cache import KeptPrompt, PromptCache
from vlm_dlm.engine.request_state import Clock, Detokenizer, RequestState
from vlm_dlm.engine.rows import rows_of
from vlm_dlm.engine.runner import Runner
from vlm_dlm.engine.scheduler import Grant, Scheduler, check_prompt, reserved
from vlm_dlm.engine.stop_strings import StopStrings
from vlm_dlm.errors import BadInputError, CapacityError, ModeError, StructureError
from vlm_dlm.events import GenerationEvent
from vlm_dlm.grammar.compiler import GrammarCompiler
from vlm_dlm.request import DecodingIds, GenerationRequest, SamplingParams
from vlm_dlm.step import Room, StepResult


class EngineCore:
    """submit, abort, step. Not thread safe: one thread owns it."""

    def __init__(
        self,
        runner: Runner,
        ids: DecodingIds,
        make_detokenizer: Callable[[bool], Detokenizer],
        config: EngineConfig | None = None,
        grammars: GrammarCompiler | None = None,
    ) -> None:
        """make_detokenizer: told whether to skip special tokens. grammars: for answers with a
        structure. Raises CapacityError where the limits ask for more cache than the runner has."""
        self.config = config or EngineConfig()
        if self.config.num_slots > runner.num_slots:
            raise CapacityError(
                f"the limits ask for a cache of {self.config.num_slots} tokens; "
                f"this one holds {runner.num_slots}"
            )
        self.runner = runner
        self.ids = ids
        self.make_detokenizer = make_detokenizer
        self.grammars = grammars
        self.max_context = self.config.max_context or runner.max_context
        self.allocator = PageAllocator(self.config.num_pages, self.config.page_size)
        self.prompts = PromptCache(self.config.num_kept_prompts)
        self.scheduler = Scheduler(self.config, self.allocator, self.prompts)
        self.modes = {name: mode() for name, mode in MODES.items()}
        self.execution = Execution(runner, self.prompts)
        self._live: dict[str, RequestState] = {}
        self._num_plan_rows = 0  # of all plans when this step began

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work

    def submit(self, request: GenerationRequest) -> None:
        """Queue a request. Raises BadInputError or CapacityError if it can never run."""
        if request.request_id in self._live:
            raise BadInputError(f"a request named {request.request_id!r} is running already")
        mode = self.modes[find_mode(request.mode).name]
        params = mode.Params() if request.params is None else request.params
        if not isinstance(params, mode.Params):
            raise ModeError(f"mode {mode.name} got the options of another mode")
        check_prompt(request.prompt, self.runner.image_token_id)
        sampling, max_rows = request.sampling, mode.max_query_len(params)
        max_tokens, max_cache_len = reserved(request, max_rows, self.max_context, self.config)
        state = RequestState(
            request,
            mode,
            params,
            self.make_detokenizer(sampling.skip_special_tokens),
            Clock(perf_counter()),
            sampling.ending_ids(self.ids.eos),
            max_tokens,
            max_cache_len,
            max_rows,
            stops=StopStrings(sampling.stop) if sampling.stop else None,
            rules=(*penalties_of(sampling, request.prompt.token_ids), *self.rules_of(sampling)),
        )
        self._live[request.request_id] = state
        self.scheduler.waiting.append(state)

    def rules_of(self, sampling: SamplingParams) -> tuple[RowFilter, ...]:
        """What the structure of an answer asks for. Any thread; the first time for a structure it
        takes as long as compiling does. Raises StructureError."""
        if sampling.structure is None:
            return ()
        if self.grammars is None:
            raise StructureError("this engine has no tokenizer to hold answers to a structure")
        return (self.grammars.compile(sampling.structure),)

    def abort(self, request_id: str) -> list[GenerationEvent]:
        """End a request in any state and free what it holds. No event if it has ended already."""
        state = self._live.get(request_id)
        return [] if state is None else [self._finish(state, "abort")]

    def run(self, requests: Iterable[GenerationRequest]) -> Iterator[GenerationEvent]:
        """Submit, then yield every event until all requests have ended."""
        for request in requests:
            self.submit(request)
        while self.has_work:
            yield from self.step()

    @torch.inference_mode()
    def step(self) -> list[GenerationEvent]:
        """One forward for everybody who can take part, and what came of it.

        Raises EngineError if the device looks broken.
        """
        began = perf_counter()
        self._num_plan_rows = self.scheduler.num_plan_rows
        events = self._admit() + self._encode()
        grants = self.scheduler.schedule()
        packed = [rows_of(grant, self.runner.image_token_id) for grant in grants]
        results = self.execution.forward(packed) if packed else []
        self.execution.end_step()
        events += self._update(grants, results, began)
        return events

    def close(self) -> list[GenerationEvent]:
        """Abort everything and free all pages."""
        events = [event for name in list(self._live) for event in self.abort(name)]
        self.prompts.clear()
        return events

    def _admit(self) -> list[GenerationEvent]:
        """Start work on requests that fit; those whose prompt is kept are past it already."""
        events: list[GenerationEvent] = []
        for state in self.scheduler.admit():
            state.clock.started = state.clock.features_ready = perf_counter()
            events.append(started(state))
            kept = self.prompts.find(state.request.prompt.key)
            if kept is not None:
                with self._ending_on_failure(state, events):
                    events += self._reuse(state, kept)
        return events

    def _encode(self) -> list[GenerationEvent]:
        """Features for one request and of one picture, as everybody waits for them."""
        events: list[GenerationEvent] = []
        state, began = self.scheduler.next_with_image, perf_counter()
        if state is None:
            return events
        with self._ending_on_failure(state, events):
            kept = self.prompts.find(state.request.prompt.key)  # by whoever was before it
            if kept is not None:
                return self._reuse(state, kept)
            self.execution.encode(state)
            self.runner.synchronize()
            state.clock.features_ready = perf_counter()
            state.clock.vision_s += state.clock.features_ready - began
        return events

    def _reuse(self, state: RequestState, kept: KeptPrompt) -> list[GenerationEvent]:
        """Copy a kept prompt instead of computing it."""
        began = perf_counter()
        assert state.table is not None, "admitted requests own pages"
        self.runner.copy(kept.table, state.table, kept.num_tokens)
        state.cache_len = kept.num_tokens
        state.request = state.request.without_pixels()
        state.is_prompt_reused = True
        state.clock.prefill_s = perf_counter() - began
        return self._start(state, kept.logits)

    def _update(
        self, grants: list[Grant], results: list[Tensor | Exception], began: float
    ) -> list[GenerationEvent]:
        """Prompts move on, modes take their logits. Nothing after this knows which mode ran."""
        events: list[GenerationEvent] = []
        by_mode: dict[str, list[tuple[RequestState, Tensor]]] = {}
        for grant, result in zip(grants, results, strict=True):
            state = grant.state
            if isinstance(result, Exception):
                events.append(self._fail(state, result))
            elif state.is_prefilling:
                with self._ending_on_failure(state, events):
                    events += self._advance_prompt(state, grant.num_rows, result, began)
            else:
                by_mode.setdefault(state.mode.name, []).append((state, result))
        for members in by_mode.values():
            events += self._advance_mode(members)
        return events

    def _advance_prompt(
        self, state: RequestState, num_rows: int, logits: Tensor, began: float
    ) -> list[GenerationEvent]:
        prompt, clock = state.request.prompt.token_ids, state.clock
        chunk = prompt[state.cache_len : state.cache_len + num_rows]
        state.num_pads_done += chunk.count(self.runner.image_token_id)
        state.cache_len += num_rows
        state.num_prefill_forwards += 1
        self.runner.synchronize()
        clock.prefill_s += perf_counter() - max(began, clock.features_ready)
        if state.cache_len < len(prompt):
            return []
        state.features = None
        if state.request.keep_prompt:
            self._keep_prompt(state, logits[-1])
        return self._start(state, logits[-1])

    def _keep_prompt(self, state: RequestState, logits: Tensor) -> None:
        """Leave a copy of the prompt behind, if there is room for one."""
        assert state.table is not None, "a running request owns pages"
        # At the far end, so that it lies in nobody's way.
        num_pages = self.allocator.pages_for(state.cache_len)
        pages = self.allocator.take(num_pages, is_highest=True)
        if pages is None:
            return
        table = PageTable(self.allocator, pages)
        self.runner.copy(state.table, table, state.cache_len)
        entry = KeptPrompt(table, state.cache_len, logits.clone())
        self.prompts.keep(state.request.prompt.key, entry)

    def _start(self, state: RequestState, logits: Tensor) -> list[GenerationEvent]:
        """The prompt is cached: hand its last logits to the mode."""
        state.clock.prefilled = perf_counter()
        request = ModeRequest(state.params, state.request.sampling, self.ids, state.rules)
        state.mode_state, result = state.mode.start(request, logits)
        return self._book(state, result)

    def _advance_mode(self, members: list[tuple[RequestState, Tensor]]) -> list[GenerationEvent]:
        """All requests of one mode at once; if choosing fails, one by one."""
        mode = members[0][0].mode
        try:
            choices = mode.choose([s.mode_state for s, _ in members], [x for _, x in members])
        except Exception as error:
            if len(members) == 1:
                return [self._fail(members[0][0], error)]
            return [event for member in members for event in self._advance_mode([member])]
        events: list[GenerationEvent] = []
        for (state, _), choice in zip(members, choices, strict=True):
            with self._ending_on_failure(state, events):
                events += self._book(state, mode.advance(state.mode_state, choice))
        return events

    def _book(self, state: RequestState, result: StepResult) -> list[GenerationEvent]:
        """Events of one step, and the plan of the next one."""
        events, reason = book(state, result)
        if reason is not None:
            return [*events, self._finish(state, reason)]
        with self._ending_on_failure(state, events):  # what is booked must still be delivered
            plan = state.mode.plan(state.mode_state, self._room_for(state))
            num_rows = len(plan.token_ids)
            assert num_rows <= state.max_rows, f"{num_rows} rows, {state.max_rows} announced"
            state.plan = plan
        return events

    def _room_for(self, state: RequestState) -> Room:
        own = 0 if state.plan is None else len(state.plan.token_ids)
        left = self.config.max_batched_tokens - self._num_plan_rows + own
        return Room(max(1, left), len(self.scheduler.running))

    @contextmanager
    def _ending_on_failure(
        self, state: RequestState, events: list[GenerationEvent]
    ) -> Iterator[None]:
        """Whatever fails inside ends this request and no other; its ending joins the events."""
        try:
            yield
        except Exception as error:
            events.append(self._fail(state, error))

    def _finish(self, state: RequestState, reason: str) -> GenerationEvent:
        try:
            event = finished(state, reason)
        except Exception as error:  # the last piece of text; an abort must still free the pages
            event = failed(state, error)
        self._forget(state)
        return event

    def _fail(self, state: RequestState, error: Exception) -> GenerationEvent:
        event = failed(state, error)
        self._forget(state)
        return event

    def _forget(self, state: RequestState) -> None:
        self._live.pop(state.id, None)
        self.scheduler.remove(state)
