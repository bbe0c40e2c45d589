"""One prompt in several modes: who runs when, what each has said so far, and how they differ.

The first mode computes the prompt and leaves it behind; the others take it over. A mode that fails
is an entry of its own and stops none of the others.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from time import monotonic

from vlm_dlm.errors import DeadlineError, QueueFullError, VlmDlmError
from vlm_dlm.events import GenerationEvent, Started, Stats, is_terminal
from vlm_dlm.report import num_equal_leading
from vlm_dlm.request import REFERENCE_MODE
from vlm_dlm.serving.queue.service import Ticket
from vlm_dlm_app.answering.answers import Answer, known_ms, metrics_of, timings_of, usage_of
from vlm_dlm_app.http.errors import ApiError, ErrorDetail, error_body, to_api_error
from vlm_dlm_app.http.fan_in import Group, merged
from vlm_dlm_app.http.streaming import Primed
from vlm_dlm_app.schemas.common import RequestMetrics
from vlm_dlm_app.schemas.compare import Agreement, Difference, ModeResult, SeenImage, Summary

# Of a ticket, and whether it is the first: the others wait for room in the queue, instead of being
# lost to a full one.
Generate = Callable[[Ticket, bool], AsyncGenerator[GenerationEvent, None]]


# Between two words about the queue; a mode that gets its turn sooner needs none.
QUEUE_S = 1.0


@dataclass(frozen=True, slots=True)
class Queued:
    """Still waiting.

    position: from 1.
    """

    position: int


@dataclass(frozen=True, slots=True)
class Step:
    """What happened in one mode; an error ends a mode that could not be finished.

    text: what the event added to its answer.
    """

    mode: str
    event: GenerationEvent | ApiError | Queued
    text: str = ""

    @property
    def is_last(self) -> bool:
        """Whether this ends the mode."""
        event = self.event
        return isinstance(event, ApiError) or (not isinstance(event, Queued) and is_terminal(event))


@dataclass(slots=True)
class ModeRun:
    """One mode of a comparison: its ticket, and what came of it so far."""

    ticket: Ticket
    answer: Answer = field(default_factory=Answer)
    error: ApiError | None = None


class Comparison:
    """tickets: by mode, in the order in which they run, all with the same prompt. deadline_s: for
    the whole comparison, None leaves it to each ticket. group: told when all modes are lost.
    position: of a request id in the queue. images: of the prompt."""

    def __init__(
        self,
        generate: Generate,
        tickets: Mapping[str, Ticket],
        *,
        is_parallel: bool = False,
        deadline_s: float | None = None,
        group: Group | None = None,
        position: Callable[[str], int | None] = lambda _: None,
        images: Sequence[SeenImage] = (),
    ) -> None:
        self.runs = {mode: ModeRun(ticket) for mode, ticket in tickets.items()}
        self.is_parallel = is_parallel
        self.images = images
        self._generate = generate
        self._first = next(iter(tickets))
        self._began = monotonic()
        self._deadline = None if deadline_s is None else self._began + deadline_s
        self._group = group or Group()
        self._position = position

    @property
    def total_s(self) -> float:
        """Since it was made."""
        return monotonic() - self._began

    async def steps(self) -> AsyncGenerator[Step]:
        """What happens, as it happens. Closing it ends every mode.

        Raises QueueFullError where the first mode is refused: then nothing has been done yet.
        """
        order = self._together() if self.is_parallel else self._in_turn()
        async with aclosing(order) as steps:
            async for step in steps:
                run, event = self.runs[step.mode], step.event
                if isinstance(event, ApiError):
                    run.error = event
                    yield step
                elif isinstance(event, Queued):
                    yield step
                else:
                    text = run.answer.add(event)
                    run.error = run.answer.error
                    yield replace(step, text=text)

    @property
    def is_whole(self) -> bool:
        """Whether no mode has failed so far."""
        return all(run.error is None for run in self.runs.values())

    def raise_if_all_failed(self) -> None:
        """Raise the first mode's error unless some mode has an answer."""
        errors = [run.error for run in self.runs.values()]
        if errors[0] is not None and all(errors):
            raise errors[0]

    async def _in_turn(self) -> AsyncGenerator[Step]:
        for mode in self.runs:
            async with aclosing(self._run(mode)) as steps:
                async for step in steps:
                    yield step

    async def _together(self) -> AsyncGenerator[Step]:
        """The others start once the first has its prompt, which is when it says more than that it
        started."""
        modes = [self._run(mode) for mode in self.runs]
        async with aclosing(merged(modes, _has_prompt, self._group)) as steps:
            async for step in steps:
                yield step

    async def _run(self, mode: str) -> AsyncGenerator[Step]:
        """One mode, in its turn of the queue."""
        has_begun, is_first = False, mode == self._first
        try:
            ticket = self._ticket(mode)
            async with aclosing(Primed(self._generate(ticket, is_first))) as events:
                while not await events.wait(QUEUE_S):
                    if (position := self._position(ticket.request.request_id)) is not None:
                        yield Step(mode, Queued(position))
                async for event in events:
                    has_begun = True
                    yield Step(mode, event)
        except VlmDlmError as error:
            if is_first and not has_begun and isinstance(error, QueueFullError):
                raise
            yield Step(mode, to_api_error(error))

    def _ticket(self, mode: str) -> Ticket:
        """With what is left of the whole comparison's deadline."""
        ticket = self.runs[mode].ticket
        if self._deadline is None:
            return ticket
        left_s = self._deadline - monotonic()
        if left_s <= 0:
            raise DeadlineError("the deadline passed before this mode's turn came")
        return replace(ticket, deadline_s=left_s)


def _has_prompt(step: Step) -> bool:
    """Whether the mode's prompt is computed: it then says more than that it started."""
    return not isinstance(step.event, Started | Queued)


@dataclass(frozen=True, slots=True)
class Judge:
    """Turns runs into results.

    to_text: the text of one token.
    runs_on: device and dtype of a mode.
    """

    runs: Mapping[str, ModeRun]
    to_text: Callable[[int], str]
    runs_on: Callable[[str], tuple[str, str]]

    def result(self, mode: str) -> ModeResult:
        """What the mode has said. Its agreement is null until `ar` has finished."""
        run = self.runs[mode]
        answer, error = run.answer, run.error
        stats = answer.stats if error is None else None
        return ModeResult(
            mode=mode,
            text=answer.text,
            num_tokens=len(answer.token_ids),
            finish_reason=answer.finish_reason if error is None else None,
            usage=None if stats is None else usage_of([stats]),
            timings=None if stats is None else timings_of(stats),
            metrics=None if stats is None else self._metrics(answer, stats, mode),
            agreement=self.agreement(mode),
            error=None if error is None else ErrorDetail(**error_body(error)["error"]),
        )

    def agreement(self, mode: str) -> Agreement | None:
        """With `ar`; None unless both have a whole answer."""
        ar, own = self.runs.get(REFERENCE_MODE), self.runs[mode]
        if ar is None or any(run.error or run.answer.stats is None for run in (ar, own)):
            return None
        return agreement_of(ar.answer, own.answer, self.to_text)

    def _metrics(self, answer: Answer, stats: Stats, mode: str) -> RequestMetrics:
        device, dtype = self.runs_on(mode)
        return metrics_of(stats, mode, device, dtype, answer.first_sentence_s)

    def summary(self, comparison: Comparison) -> Summary:
        """Of all that was done. Zeros where no mode got that far."""
        done = [run.answer.stats for run in self.runs.values() if run.answer.stats is not None]
        # Of engines that say what a prompt cost, if there are any.
        known = [stats for stats in done if stats.prompt_s is not None] or done
        computed = [stats for stats in known if not stats.is_prompt_reused]
        # Without one, the shortest copy stands for what the prompt cost.
        first = (computed or known or [None])[0]
        return Summary(
            vision_ms=0.0 if first is None else known_ms(first.vision_s),
            prefill_ms=0.0 if first is None else known_ms(first.prefill_s),
            prompt_tokens=0 if first is None else first.num_prompt_tokens,
            image_tokens=0 if first is None else first.num_image_tokens,
            is_prompt_cached=bool(known) and not computed,
            is_parallel=comparison.is_parallel,
            total_ms=round(comparison.total_s * 1000, 3),
            agreement={mode: self.agreement(mode) for mode in self.runs},
            images=list(comparison.images),
        )


def agreement_of(ar: Answer, own: Answer, to_text: Callable[[int], str]) -> Agreement:
    """How far two answers are the same. to_text: the text of one token."""
    sides = ar.token_ids, own.token_ids
    longest = max(map(len, sides))
    num_equal = num_equal_leading(*sides)
    difference = None
    if num_equal < longest:
        texts = [to_text(ids[num_equal]) if num_equal < len(ids) else None for ids in sides]
        margin = ar.margins[num_equal] if num_equal < len(ar.margins) else None
        difference = Difference(index=num_equal, ar=texts[0], own=texts[1], margin=margin)
    return Agreement(
        is_identical=difference is None,
        num_equal_tokens=num_equal,
        share=round(num_equal / longest, 4) if longest else 1.0,
        first_difference=difference,
    )
