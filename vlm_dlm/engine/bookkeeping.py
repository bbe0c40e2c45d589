"""What one step result means for one request: cache length, counts, stop rules, text, events."""

from __future__ import annotations

from time import perf_counter

from vlm_dlm.engine.sequence import Sequence
from vlm_dlm.errors import EngineError, VlmDlmError
from vlm_dlm.events import Canvas, Committed, Failed, Finished, GenerationEvent, Started
from vlm_dlm.step import StepResult, Token


def started(sequence: Sequence) -> Started:
    """The first event of a request that left the queue."""
    prompt = sequence.request.prompt
    return Started(
        sequence.id,
        sequence.mode.name,
        len(prompt.token_ids),
        prompt.num_image_tokens,
        sequence.clock.started,
    )


def book(
    sequence: Sequence, result: StepResult, eos: frozenset[int]
) -> tuple[list[GenerationEvent], str | None]:
    """Book one step of a running request. Returns its events and, at the end, the reason."""
    sequence.cache_len += result.num_kv_kept
    sequence.num_forwards += result.num_forwards
    if sequence.plan is not None:
        sequence.num_rows += sequence.num_rows_wanted
    if result.acceptance_len is not None:
        sequence.acceptance_lengths.append(result.acceptance_len)
    events: list[GenerationEvent] = []
    room = sequence.request.sampling.max_tokens - sequence.num_tokens
    tokens, reason = cut(result.committed, room, eos)
    now = perf_counter()
    if tokens:
        sequence.num_tokens += len(tokens)
        sequence.clock.first_token = sequence.clock.first_token or now
        text = sequence.detokenizer.push([token.id for token in tokens])
        events.append(Committed(sequence.id, tokens, text, sequence.num_forwards, now))
    if reason is None and result.canvas is not None:
        events.append(Canvas(sequence.id, result.canvas, sequence.num_forwards, now))
    return events, reason


def cut(
    tokens: tuple[Token, ...], room: int, eos: frozenset[int]
) -> tuple[tuple[Token, ...], str | None]:
    """Cut behind the first end token, then at `room` tokens. Returns the rest and why it ends."""
    reason = None
    for i, token in enumerate(tokens):
        if token.id in eos:
            tokens, reason = tokens[: i + 1], "stop"
            break
    if len(tokens) > room or (len(tokens) == room and reason is None):
        return tokens[:room], "length"
    return tokens, reason


def finished(sequence: Sequence, reason: str) -> Finished:
    """The terminal event of a request that ended as it should."""
    now = perf_counter()
    return Finished(sequence.id, reason, sequence.detokenizer.flush(), sequence.stats(now), now)


def failed(sequence: Sequence, error: Exception) -> Failed:
    """The terminal event of a request that could not be finished. Foreign errors are not quoted:
    their texts may hold what a caller must not see."""
    if not isinstance(error, VlmDlmError):
        error = EngineError(f"the engine failed while this request was running ({_name(error)})")
    return Failed(sequence.id, error.code, str(error), perf_counter())


def _name(error: Exception) -> str:
    return type(error).__name__
