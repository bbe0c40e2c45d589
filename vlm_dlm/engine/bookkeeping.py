"""What one step result means for one request: cache length, counts, stop rules, text, events."""

from __future__ import annotations

import logging
from time import perf_counter

from vlm_dlm.engine.base import ENGINE_FAILED
from vlm_dlm.engine.execution import is_out_of_memory
from vlm_dlm.engine.request_state import RequestState
from vlm_dlm.errors import EngineError, UnavailableError, VlmDlmError
from vlm_dlm.events import Canvas, Committed, Failed, Finished, GenerationEvent, Started
from vlm_dlm.step import StepResult, Token

logger = logging.getLogger(__name__)


def started(state: RequestState) -> Started:
    """The first event of a request that left the queue."""
    prompt = state.request.prompt
    return Started(
        state.id,
        state.mode.name,
        len(prompt.token_ids),
        prompt.num_image_tokens,
        state.clock.started,
    )


def book(state: RequestState, result: StepResult) -> tuple[list[GenerationEvent], str | None]:
    """Book one step of a running request. Returns its events and, at the end, the reason."""
    state.cache_len += result.num_kv_kept
    state.num_forwards += result.num_forwards
    state.count_forward()
    if result.acceptance_len is not None:
        state.acceptance_lengths.append(result.acceptance_len)
        state.num_draft_tokens += result.num_drafts
    events: list[GenerationEvent] = []
    room = state.max_tokens - state.num_tokens
    tokens, reason = cut(result.committed, room, state.ending_ids)
    now = perf_counter()
    if tokens:
        tokens, text, is_stopped = _spoken(state, tokens)
        reason = "stop" if is_stopped else reason
        state.num_tokens += len(tokens)
        state.clock.first_token = state.clock.first_token or now
        events.append(Committed(state.id, tokens, text, state.num_forwards, now))
    if reason is None and result.canvas:
        events.append(Canvas(state.id, result.canvas, state.num_forwards, now))
    return events, reason


def cut(
    tokens: tuple[Token, ...], room: int, ending_ids: frozenset[int]
) -> tuple[tuple[Token, ...], str | None]:
    """Cut after the first token that ends the answer, then at `room` tokens. Returns the rest and
    why it ends."""
    reason = None
    for i, token in enumerate(tokens):
        if token.id in ending_ids:
            tokens, reason = tokens[: i + 1], "stop"
            break
    if len(tokens) > room or (len(tokens) == room and reason is None):
        return tokens[:room], "length"
    return tokens, reason


def _spoken(state: RequestState, tokens: tuple[Token, ...]) -> tuple[tuple[Token, ...], str, bool]:
    """The tokens up to the one that completes a stop string, the text that is clear, and whether
    there was such a string."""
    spoken = tokens[:-1] if tokens[-1].id in state.silent_ids else tokens
    stops, push = state.stops, state.detokenizer.push
    if stops is None:
        return tokens, push([token.id for token in spoken]), False
    pieces: list[str] = []
    for i, token in enumerate(spoken):
        is_early = state.num_tokens + i < state.request.sampling.min_tokens
        pieces.append(stops.push(push([token.id]), is_early=is_early))
        if stops.is_found:
            return tokens[: i + 1], "".join(pieces), True
    return tokens, "".join(pieces), False


def finished(state: RequestState, reason: str) -> Finished:
    """The terminal event of a request that ended as it should."""
    text, stops = state.detokenizer.flush(), state.stops
    if stops is not None:
        is_early = state.num_tokens <= state.request.sampling.min_tokens
        text = stops.push(text, is_early=is_early) + stops.flush()
        if stops.is_found and reason == "length":  # complete with the last token allowed
            reason = "stop"
    now = perf_counter()
    return Finished(state.id, reason, text, state.stats(now), now)


def failed(state: RequestState, error: Exception) -> Failed:
    """The terminal event of a request that could not be finished. Foreign errors go to the log and
    not to the caller, who must not see what their texts may hold."""
    if is_out_of_memory(error):
        logger.error("a request found no memory", exc_info=error)
        error = UnavailableError("the engine has too little memory for this request at the moment")
    if not isinstance(error, VlmDlmError):
        logger.error("a request failed in the engine", exc_info=error)
        error = EngineError(ENGINE_FAILED)
    return Failed(state.id, error.code, str(error), perf_counter())
