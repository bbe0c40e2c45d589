"""What one step result means for one request: cache length, counts, stop rules, text, events."""

from __future__ import annotations

import logging
from time import perf_counter

from vlm_dlm.engine.execution import is_out_of_memory
from vlm_dlm.engine.sequence import Sequence
from vlm_dlm.errors import EngineError, UnavailableError, VlmDlmError
from vlm_dlm.events import Canvas, Committed, Failed, Finished, GenerationEvent, Started
from vlm_dlm.step import StepResult, Token

logger = logging.getLogger(__name__)


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


def book(sequence: Sequence, result: StepResult) -> tuple[list[GenerationEvent], str | None]:
    """Book one step of a running request. Returns its events and, at the end, the reason."""
    sequence.cache_len += result.num_kv_kept
    sequence.num_forwards += result.num_forwards
    sequence.count_forward()
    if result.acceptance_len is not None:
        sequence.acceptance_lengths.append(result.acceptance_len)
        sequence.num_draft_tokens += result.num_drafts
    events: list[GenerationEvent] = []
    room = sequence.max_tokens - sequence.num_tokens
    tokens, reason = cut(result.committed, room, sequence.ending_ids)
    now = perf_counter()
    if tokens:
        tokens, text, is_stopped = _spoken(sequence, tokens)
        reason = "stop" if is_stopped else reason
        sequence.num_tokens += len(tokens)
        sequence.clock.first_token = sequence.clock.first_token or now
        events.append(Committed(sequence.id, tokens, text, sequence.num_forwards, now))
    if reason is None and result.canvas:
        events.append(Canvas(sequence.id, result.canvas, sequence.num_forwards, now))
    return events, reason


def cut(
    tokens: tuple[Token, ...], room: int, ending_ids: frozenset[int]
) -> tuple[tuple[Token, ...], str | None]:
    """Cut behind the first token that ends the answer, then at `room` tokens. Returns the rest and
    why it ends."""
    reason = None
    for i, token in enumerate(tokens):
        if token.id in ending_ids:
            tokens, reason = tokens[: i + 1], "stop"
            break
    if len(tokens) > room or (len(tokens) == room and reason is None):
        return tokens[:room], "length"
    return tokens, reason


def _spoken(sequence: Sequence, tokens: tuple[Token, ...]) -> tuple[tuple[Token, ...], str, bool]:
    """The tokens up to the one that completes a stop string, the text that is clear, and whether
    there was such a string."""
    spoken = tokens[:-1] if tokens[-1].id in sequence.silent_ids else tokens
    stops, push = sequence.stops, sequence.detokenizer.push
    if stops is None:
        return tokens, push([token.id for token in spoken]), False
    pieces: list[str] = []
    for i, token in enumerate(spoken):
        is_early = sequence.num_tokens + i < sequence.request.sampling.min_tokens
        pieces.append(stops.push(push([token.id]), is_early=is_early))
        if stops.is_found:
            return tokens[: i + 1], "".join(pieces), True
    return tokens, "".join(pieces), False


def finished(sequence: Sequence, reason: str) -> Finished:
    """The terminal event of a request that ended as it should."""
    text, stops = sequence.detokenizer.flush(), sequence.stops
    if stops is not None:
        is_early = sequence.num_tokens <= sequence.request.sampling.min_tokens
        text = stops.push(text, is_early=is_early) + stops.flush()
        if stops.is_found and reason == "length":  # complete with the last token allowed
            reason = "stop"
    now = perf_counter()
    return Finished(sequence.id, reason, text, sequence.stats(now), now)


def failed(sequence: Sequence, error: Exception) -> Failed:
    """The terminal event of a request that could not be finished. Foreign errors go to the log and
    not to the caller, who must not see what their texts may hold."""
    if is_out_of_memory(error):
        logger.error("a request found no memory", exc_info=error)
        error = UnavailableError("the engine has too little memory for this request at the moment")
    if not isinstance(error, VlmDlmError):
        logger.error("a request failed in the engine", exc_info=error)
        error = EngineError("the engine failed while this request was running")
    return Failed(sequence.id, error.code, str(error), perf_counter())
