"""An engine that replays a script instead of running a model: for tests of what stands around an
engine, and for work on the page without weights.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from time import perf_counter

from vlm_dlm.engine.base import Capabilities, Engine, describe_modes
from vlm_dlm.engine.stop_strings import StopStrings
from vlm_dlm.errors import EngineError
from vlm_dlm.events import Canvas, Committed, Failed, Finished, GenerationEvent, Started, Stats
from vlm_dlm.request import GenerationRequest
from vlm_dlm.step import ForwardKind, Logprobs, Origin, Token


@dataclass(frozen=True, slots=True)
class Script:
    """How a scripted engine behaves.

    words: the answer, one token each, cut at the request's max_tokens.
    step_s: pause before every token, in seconds.
    has_canvas: show a canvas before every token.
    fail_after: tokens after which a request fails; None for never.
    max_running, max_cache_tokens: what `capabilities` claims.
    """

    words: tuple[str, ...] = ("There ", "is ", "one ", "object.")
    step_s: float = 0.0
    has_canvas: bool = False
    fail_after: int | None = None
    max_running: int = 8
    max_cache_tokens: int | None = None


class ScriptedEngine(Engine):
    """Every mode gives the same answer."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self.num_running = 0
        self.num_aborted = 0
        self._is_closed = False

    @property
    def capabilities(self) -> Capabilities:
        script = self.script
        return Capabilities(describe_modes(), 4096, script.max_running, script.max_cache_tokens)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        if self._is_closed:
            raise EngineError("the engine is shutting down")
        self.num_running += 1
        is_done = False
        try:
            async for event in self._events(request):
                is_done = isinstance(event, Finished | Failed)
                yield event
        finally:
            self.num_running -= 1
            self.num_aborted += not is_done

    async def close(self) -> None:
        self._is_closed = True

    async def _events(self, request: GenerationRequest) -> AsyncIterator[GenerationEvent]:
        script, name = self.script, request.request_id
        prompt, began = request.prompt, perf_counter()
        yield Started(
            name, request.mode, len(prompt.token_ids), prompt.num_image_tokens, perf_counter()
        )
        stops = StopStrings(request.sampling.stop)
        words = script.words[: request.sampling.max_tokens]
        num_tokens = len(words)
        for index, word in enumerate(words):
            await asyncio.sleep(script.step_s)
            if self._is_closed or index == script.fail_after:
                yield _failed(name, self._is_closed)
                return
            if script.has_canvas:
                yield Canvas(name, (index,) * 4, index + 1, perf_counter())
            token = _token(request, index)
            yield Committed(name, (token,), stops.push(word), index + 1, perf_counter())
            if stops.is_found:
                num_tokens = index + 1
                break
        if script.fail_after == num_tokens == len(words):
            yield _failed(name, self._is_closed)
            return
        is_whole = len(words) == len(script.words)
        reason = "stop" if is_whole or stops.is_found else "length"
        stats = _stats(request, num_tokens, perf_counter() - began)
        yield Finished(name, reason, stops.flush(), stats, perf_counter())


def _token(request: GenerationRequest, index: int) -> Token:
    num, logprobs = request.sampling.num_logprobs, None
    if num is not None:
        logprobs = Logprobs(0.0, tuple((index + i, -float(i)) for i in range(num)))
    return Token(
        id=index,
        block=index,
        step=index + 1,
        confidence=1.0,
        origin=Origin.AR,
        logprobs=logprobs,
    )


def _failed(name: str, is_closed: bool) -> Failed:
    message = "the engine is shutting down" if is_closed else "the script says so"
    return Failed(name, EngineError.code, message, perf_counter())


def _stats(request: GenerationRequest, num_tokens: int, decode_s: float) -> Stats:
    prompt = request.prompt
    return Stats(
        num_prompt_tokens=len(prompt.token_ids),
        num_image_tokens=prompt.num_image_tokens,
        num_tokens=num_tokens,
        num_forwards=num_tokens,
        num_rows=num_tokens,
        queue_s=0.0,
        vision_s=0.0,
        prefill_s=0.0,
        decode_s=decode_s,
        ttft_s=0.0,
        acceptance_lengths=None,
        is_prompt_reused=False,
        forwards_by_kind={ForwardKind.AR.value: num_tokens},
        rows_by_kind={ForwardKind.AR.value: num_tokens},
        num_prefill_forwards=1,
    )
