"""vLLM behind our engine interface: its life, and one stream per request.

Owns when it counts as ready, lost or down. A child that is lost is started again; one elsewhere is
waited for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from time import perf_counter

from vlm_dlm.answer_room import fit_answer
from vlm_dlm.decoding.autoregressive import Autoregressive
from vlm_dlm.engine.base import Capabilities, describe_modes
from vlm_dlm.errors import EngineError, VlmDlmError
from vlm_dlm.events import Failed, Finished, GenerationEvent
from vlm_dlm.preflight import Checkpoint
from vlm_dlm.request import GenerationRequest
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm.serving.managed import Losses, RestartLimit, StatefulEngine, unavailable
from vlm_dlm.serving.vllm.answer import VllmAnswer
from vlm_dlm.serving.vllm.client import STOPPED, VllmClient, encoded_body
from vlm_dlm.serving.vllm.messages import Chunk
from vlm_dlm.serving.vllm.servers import VllmServer
from vlm_dlm.serving.vllm.trial import trial

logger = logging.getLogger(__name__)
VLLM_MODES = (Autoregressive.name,)
MAX_RUNNING = 16
LOST = "vLLM stopped and is being started again"
UNSTARTABLE = "vLLM cannot be started; the server's log says why"


@dataclass(frozen=True, slots=True)
class Pace:
    """How often it is looked at: a child that starts, or one in doubt, every soon_s, any other
    every poll_s. One that was ready and then, max_ailments times in a row, does not answer within
    health_s is lost."""

    soon_s: float = 0.25
    poll_s: float = 2.0
    health_s: float = 10.0
    max_ailments: int = 3


class VllmEngine(StatefulEngine):
    """Every stream ends in one terminal event, whatever happens to vLLM.

    checkpoint: the same as it serves; our own processor makes its ids and reads them.
    """

    def __init__(
        self,
        server: VllmServer,
        checkpoint: Checkpoint,
        max_running: int | None = None,
        limit: RestartLimit | None = None,
        pace: Pace | None = None,
    ) -> None:
        super().__init__()
        self._server = server
        self._checkpoint = checkpoint
        self._pace = pace or Pace()
        self._losses = Losses(limit or RestartLimit(window_s=900.0))
        self._capabilities = Capabilities(
            modes=describe_modes(VLLM_MODES, has_options=False),
            max_context=checkpoint.config.max_position_embeddings,
            max_running=max_running or MAX_RUNNING,
            needs_pictures=checkpoint.config.vision is not None,
        )
        self._waits: set[asyncio.Timeout] = set()  # of streams, for what comes next
        self._look_now = asyncio.Event()
        self._has_served = False
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def start(self) -> None:
        self._supervisor = asyncio.create_task(self._supervise())

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        client = self._server.client
        if client is None or self.state.phase is not Phase.READY:
            raise unavailable(self.state)
        request = self._fitted(request, client)
        events = self._events(client, request)
        del request  # and its pictures, which are on their way soon
        async with aclosing(events):
            async for event in events:
                yield event

    async def _events(
        self, client: VllmClient, request: GenerationRequest
    ) -> AsyncGenerator[GenerationEvent]:
        processor = self._checkpoint.processor
        special = processor.tokenizer.special
        began_s = perf_counter()
        content = await encoded_body(request, special, client.model)
        request = request.without_pixels()
        detokenizer = processor.detokenizer(request.sampling.skip_special_tokens)
        answer = VllmAnswer(request, detokenizer, special.eos, began_s)
        chunks = client.stream(content)
        del content
        async with aclosing(chunks):
            await self._next(chunks)  # raises what is refused, before any event
            yield answer.started()
            try:
                while answer.reason is None:
                    chunk = await self._next(chunks)
                    if chunk is not None and (event := answer.add(chunk)) is not None:
                        yield event
            except EngineError as error:
                self._look_now.set()
                yield Failed(request.request_id, error.code, str(error), perf_counter())
                return
            await self._read_usage(answer, chunks)
        yield answer.finished()

    async def close(self) -> None:
        self._set(phase=Phase.CLOSED)
        self._end_streams()
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait({self._supervisor})
        await self._server.stop()

    def _fitted(self, request: GenerationRequest, client: VllmClient) -> GenerationRequest:
        """With the max_tokens that it really has. Raises ContextLengthError."""
        max_context = client.max_context or self._capabilities.max_context
        sampling = fit_answer(request.sampling, len(request.prompt.token_ids), max_context)
        return replace(request, sampling=sampling)

    async def _next(self, chunks: AsyncGenerator[Chunk | None]) -> Chunk | None:
        """Raises EngineError where vLLM is lost meanwhile, or the stream ends too soon."""
        try:
            async with asyncio.timeout(None) as wait:
                self._waits.add(wait)
                try:
                    return await anext(chunks)
                finally:
                    self._waits.discard(wait)
        except (TimeoutError, StopAsyncIteration):
            raise EngineError(STOPPED) from None

    async def _read_usage(self, answer: VllmAnswer, chunks: AsyncGenerator[Chunk | None]) -> None:
        """Figures follow the last token, unless it was our own stop string that ended it. They
        may be missing: the answer is whole without."""
        with suppress(EngineError):
            while not answer.is_cut:
                answer.add(await self._next(chunks) or Chunk())

    def _end_streams(self) -> None:
        now = asyncio.get_running_loop().time()
        for wait in tuple(self._waits):
            wait.reschedule(now)

    async def _supervise(self) -> None:
        try:
            while not self.state.is_final:
                await self._run()
                await self._server.stop()
                self._judge()
        except Exception:
            logger.exception("vLLM cannot be kept running")
            self._go_down(UNSTARTABLE)
        await self._server.stop()

    async def _run(self) -> None:
        """One life of the server. Returns once it has ended."""
        try:
            self._server.start()
        except OSError as error:
            logger.error("vLLM cannot be started: %s", error)
            return
        client, num_ailments = self._server.client, 0
        assert client is not None
        while (ending := self._server.ending) is None:
            ailment = await client.ailment(self._pace.health_s)
            num_ailments = 0 if ailment is None else num_ailments + 1
            if self.state.phase is not Phase.READY:
                await self._look_at_new(client, ailment)
            elif ailment is not None and num_ailments >= self._pace.max_ailments:
                self._lose(ailment)
                if self._server.is_ours:
                    return
            if self.state.is_final:
                return
            await self._pause(is_doubtful=num_ailments > 0)
        lines = "".join(f"\n    {line}" for line in self._server.last_lines)
        logger.error("vLLM ended (%s)%s", ending, lines)
        self._lose(LOST)

    async def _pause(self, is_doubtful: bool) -> None:
        """Until the next look at it."""
        is_ready = self.state.phase is Phase.READY
        is_soon = is_doubtful if is_ready else self._server.is_ours
        pause_s = self._pace.soon_s if is_soon else self._pace.poll_s
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._look_now.wait()
        self._look_now.clear()

    async def _look_at_new(self, client: VllmClient, ailment: str | None) -> None:
        """One that is not ready may be now. A child says nothing until it listens, which is no
        fault of it; if it is the wrong one then, it will be so the next time."""
        is_ours = self._server.is_ours
        if ailment is None:
            ailment = await client.mismatch(self._checkpoint.processor.tokenizer)
            ailment = ailment or await self._try(client)
            if ailment is not None and is_ours:
                return self._go_down(ailment)
        if ailment is None:
            self._has_served = True
            device, dtype = self._server.device, self._server.dtype
            self._set(phase=Phase.READY, progress=1.0, reason="", device=device, dtype=dtype)
        elif not is_ours and ailment != self.state.reason:
            logger.warning("%s is not ready: %s", self._server.name, ailment)
            self._set(reason=ailment)
        return None

    async def _try(self, client: VllmClient) -> str | None:
        """One short answer, with a picture where the model reads them, so that nobody waits for
        what is done but once. Why there was none, as a sentence without a full stop."""
        self._set(phase=Phase.WARMING)
        events: list[GenerationEvent] = []
        with suppress(VlmDlmError):
            events = [event async for event in self._events(client, trial(self._checkpoint))]
        if events and isinstance(events[-1], Finished):
            return None
        self._set(phase=Phase.LOADING)
        return "vLLM cannot answer"

    def _lose(self, reason: str) -> None:
        if self.state.is_final:
            return
        if self.state.phase is Phase.READY:
            logger.error("%s was lost: %s", self._server.name, reason)
        self._set(phase=Phase.LOADING, progress=0.0, reason=reason)
        self._end_streams()
        self._tell_lost()

    def _judge(self) -> None:
        """Start again, or give up: one that never came up would not the next time either."""
        is_too_many = self._losses.add()
        if not self._has_served:
            self._go_down(UNSTARTABLE)
        elif is_too_many:
            window_s = self._losses.limit.window_s
            self._go_down(f"vLLM stopped {len(self._losses)} times within {window_s:g} s")
        elif not self.state.is_final:
            self._set(num_restarts=self.state.num_restarts + 1)

    def _go_down(self, reason: str) -> None:
        if not self.state.is_final:
            logger.error("vLLM stays down: %s", reason)
            self._set(phase=Phase.DOWN, progress=0.0, reason=reason)
            self._end_streams()
            self._tell_lost()
