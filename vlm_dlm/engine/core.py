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
from vlm_dlm.engine.bookkeeping import book, failed, finished, started
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.execution import Execution
from vlm_dlm.engine.features import FeatureCache
from vlm_dlm.engine.kv_cache import KvCache
from vlm_dlm.engine.model_runner import ModelRunner
from vlm_dlm.engine.packing import rows_of
from vlm_dlm.engine.pages import PageAllocator, PageTable
from vlm_dlm.engine.prompt_cache import KeptPrompt, PromptCache
from vlm_dlm.engine.scheduler import Grant, Scheduler, check_prompt, reserved
from vlm_dlm.engine.sequence import Clock, Detokenizer, Sequence
from vlm_dlm.engine.stop_strings import StopStrings
from vlm_dlm.errors import BadInputError, ModeError
from vlm_dlm.events import GenerationEvent
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.request import DecodingIds, GenerationRequest
from vlm_dlm.step import StepResult


class EngineCore:
    """submit, abort, step. Not thread safe: one thread owns it. make_detokenizer: told whether to
    skip special tokens."""

    def __init__(
        self,
        model: VlmModel,
        ids: DecodingIds,
        make_detokenizer: Callable[[bool], Detokenizer],
        image_token_id: int | None = None,
        config: EngineConfig | None = None,
    ) -> None:
        self.config = config or EngineConfig()
        self.ids = ids
        self.make_detokenizer = make_detokenizer
        self.max_context = self.config.max_context or model.config.max_position_embeddings
        page_size, num_pages = self.config.page_size, self.config.num_pages
        self.allocator = PageAllocator(num_pages, page_size)
        self.cache = KvCache(model.config, num_pages * page_size, model.device, model.dtype)
        self.prompts = PromptCache(self.config.num_kept_prompts)
        self.features = FeatureCache(model, self.config.num_kept_features)
        self.scheduler = Scheduler(self.config, self.allocator, self.prompts)
        self.runner = ModelRunner(model, self.cache, image_token_id)
        self.modes = {name: mode() for name, mode in MODES.items()}
        self.execution = Execution(self.runner, self.features, self.prompts)
        self._live: dict[str, Sequence] = {}

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
        sequence = Sequence(
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
        )
        self._live[request.request_id] = sequence
        self.scheduler.waiting.append(sequence)

    def abort(self, request_id: str) -> list[GenerationEvent]:
        """End a request in any state and free what it holds. No event if it has ended already."""
        sequence = self._live.get(request_id)
        return [] if sequence is None else [self._finish(sequence, "abort")]

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
        for sequence in self.scheduler.admit():
            sequence.clock.started = sequence.clock.features_ready = perf_counter()
            events.append(started(sequence))
            kept = self.prompts.find(sequence.request.prompt.key)
            if kept is not None:
                with self._ending_on_failure(sequence, events):
                    events += self._reuse(sequence, kept)
        return events

    def _encode(self) -> list[GenerationEvent]:
        """Features for one request and of one picture, as everybody waits for them."""
        events: list[GenerationEvent] = []
        sequence, began = self.scheduler.next_with_image, perf_counter()
        if sequence is None:
            return events
        with self._ending_on_failure(sequence, events):
            kept = self.prompts.find(sequence.request.prompt.key)  # by whoever was before it
            if kept is not None:
                return self._reuse(sequence, kept)
            self.execution.encode(sequence)
            self.runner.synchronize()
            sequence.clock.features_ready = perf_counter()
            sequence.clock.vision_s += sequence.clock.features_ready - began
        return events

    def _reuse(self, sequence: Sequence, kept: KeptPrompt) -> list[GenerationEvent]:
        """Copy a kept prompt instead of computing it."""
        began = perf_counter()
        assert sequence.table is not None, "admitted requests own pages"
        self.cache.copy(kept.table, sequence.table, kept.num_tokens)
        sequence.cache_len = kept.num_tokens
        sequence.request = sequence.request.without_pixels()
        sequence.is_prompt_reused = True
        sequence.clock.prefill_s = perf_counter() - began
        return self._start(sequence, kept.logits)

    def _update(
        self, grants: list[Grant], results: list[Tensor | Exception], began: float
    ) -> list[GenerationEvent]:
        """Prompts move on, modes take their logits. Nothing behind this knows which mode ran."""
        events: list[GenerationEvent] = []
        by_mode: dict[str, list[tuple[Sequence, Tensor]]] = {}
        for grant, result in zip(grants, results, strict=True):
            sequence = grant.sequence
            if isinstance(result, Exception):
                events.append(self._fail(sequence, result))
            elif sequence.is_prefilling:
                with self._ending_on_failure(sequence, events):
                    events += self._advance_prompt(sequence, grant.num_rows, result, began)
            else:
                by_mode.setdefault(sequence.mode.name, []).append((sequence, result))
        for members in by_mode.values():
            events += self._advance_mode(members)
        return events

    def _advance_prompt(
        self, sequence: Sequence, num_rows: int, logits: Tensor, began: float
    ) -> list[GenerationEvent]:
        prompt, clock = sequence.request.prompt.token_ids, sequence.clock
        chunk = prompt[sequence.cache_len : sequence.cache_len + num_rows]
        sequence.num_pads_done += chunk.count(self.runner.image_token_id)
        sequence.cache_len += num_rows
        sequence.num_prefill_forwards += 1
        self.runner.synchronize()
        clock.prefill_s += perf_counter() - max(began, clock.features_ready)
        if sequence.cache_len < len(prompt):
            return []
        sequence.features = None
        if sequence.request.keep_prompt:
            self._keep_prompt(sequence, logits[-1])
        return self._start(sequence, logits[-1])

    def _keep_prompt(self, sequence: Sequence, logits: Tensor) -> None:
        """Leave a copy of the prompt behind, if there is room for one."""
        assert sequence.table is not None, "a running request owns pages"
        # At the far end, so that it lies in nobody's way.
        num_pages = self.allocator.pages_for(sequence.cache_len)
        pages = self.allocator.take(num_pages, is_highest=True)
        if pages is None:
            return
        table = PageTable(self.allocator, pages)
        self.cache.copy(sequence.table, table, sequence.cache_len)
        entry = KeptPrompt(table, sequence.cache_len, logits.clone())
        self.prompts.keep(sequence.request.prompt.key, entry)

    def _start(self, sequence: Sequence, logits: Tensor) -> list[GenerationEvent]:
        """The prompt is cached: hand its last logits to the mode."""
        sequence.clock.prefilled = perf_counter()
        request = ModeRequest(sequence.params, sequence.request.sampling, self.ids)
        sequence.state, result = sequence.mode.start(request, logits)
        return self._book(sequence, result)

    def _advance_mode(self, members: list[tuple[Sequence, Tensor]]) -> list[GenerationEvent]:
        """All requests of one mode at once; if choosing fails, one by one."""
        mode = members[0][0].mode
        try:
            choices = mode.choose([s.state for s, _ in members], [x for _, x in members])
        except Exception as error:
            if len(members) == 1:
                return [self._fail(members[0][0], error)]
            return [event for member in members for event in self._advance_mode([member])]
        events: list[GenerationEvent] = []
        for (sequence, _), choice in zip(members, choices, strict=True):
            with self._ending_on_failure(sequence, events):
                events += self._book(sequence, mode.advance(sequence.state, choice))
        return events

    def _book(self, sequence: Sequence, result: StepResult) -> list[GenerationEvent]:
        """Events of one step, and the plan of the next one."""
        events, reason = book(sequence, result)
        if reason is not None:
            return [*events, self._finish(sequence, reason)]
        with self._ending_on_failure(sequence, events):  # what is booked must still be delivered
            plan = sequence.mode.plan(sequence.state)
            num_rows = len(plan.token_ids)
            assert num_rows <= sequence.max_rows, f"{num_rows} rows, {sequence.max_rows} announced"
            sequence.plan = plan
        return events

    @contextmanager
    def _ending_on_failure(
        self, sequence: Sequence, events: list[GenerationEvent]
    ) -> Iterator[None]:
        """Whatever fails inside ends this request and no other; its ending joins the events."""
        try:
            yield
        except Exception as error:
            events.append(self._fail(sequence, error))

    def _finish(self, sequence: Sequence, reason: str) -> GenerationEvent:
        try:
            event = finished(sequence, reason)
        except Exception as error:  # the last piece of text; an abort must still free the pages
            event = failed(sequence, error)
        self._forget(sequence)
        return event

    def _fail(self, sequence: Sequence, error: Exception) -> GenerationEvent:
        event = failed(sequence, error)
        self._forget(sequence)
        return event

    def _forget(self, sequence: Sequence) -> None:
        self._live.pop(sequence.id, None)
        self.scheduler.remove(sequence)
