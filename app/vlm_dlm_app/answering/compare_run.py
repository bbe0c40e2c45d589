"""One request for a comparison: its options, its reply as a whole and as events."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from vlm_dlm.decoding import find_mode
from vlm_dlm.errors import ModeError
from vlm_dlm.preflight import parse_modes
from vlm_dlm_app.answering.compare_events import CompareEvents
from vlm_dlm_app.answering.comparison import Comparison, Judge
from vlm_dlm_app.answering.drafts import DraftPace
from vlm_dlm_app.answering.intake import Ask
from vlm_dlm_app.answering.modes import (
    check_offered,
    given_options,
    mode_options,
    model_id,
    offered_names,
)
from vlm_dlm_app.answering.start import start_comparison
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.streaming import rendered, sse
from vlm_dlm_app.schemas.compare import CompareBody, CompareReply
from vlm_dlm_app.state import Services


def params_of(services: Services, body: CompareBody) -> dict[str, Any]:
    """Checked options per mode, in the order of the modes. Raises ApiError or ModeError."""
    offered = offered_names(services)
    modes = parse_modes(body.modes, offered)
    check_offered(services, *modes)
    params = dict(mode_options(body.options, *modes))
    named: set[str] = set()
    for name, own in body.mode_options.items():
        mode = find_mode(name, offered).name
        if mode in named:
            message = f"mode_options names {mode} twice, by an alias"
            raise ApiError(ModeError.code, message, "mode_options")
        named.add(mode)
        if mode not in params:
            message = f"mode_options has {mode}, which is not among the modes"
            raise ApiError(ModeError.code, message, "mode_options")
        mode_options(own, mode)  # raises for an option that the mode lacks
        params[mode] = replace(params[mode], **given_options(own))
    return params


@dataclass(slots=True)
class CompareRun:
    """One request on its way to its answers.

    params: of each mode, in the order in which they run.
    request_id: of the HTTP request, for the log.
    """

    services: Services
    ask: Ask
    params: Mapping[str, Any]
    client: str
    request_id: str
    is_parallel: bool = False
    drafts: DraftPace = field(default_factory=DraftPace)
    id: str = field(default_factory=lambda: f"cmp-{uuid4().hex}")
    comparison: Comparison | None = None

    def is_whole(self) -> bool:
        """Whether no mode has failed. One that has may do better in another try."""
        return self.comparison is not None and self.comparison.is_whole

    async def whole(self) -> bytes:
        """The reply as JSON. Raises ApiError or VlmDlmError."""
        comparison = await self._start()
        async with aclosing(comparison.steps()) as steps:
            async for _ in steps:
                pass
        judge = judge_of(self.services, comparison)
        comparison.raise_if_all_failed()
        reply = CompareReply(
            id=self.id,
            created=int(time.time()),
            model=model_id(self.services),
            results=[judge.result(mode) for mode in comparison.runs],
            summary=judge.summary(comparison),
        )
        return reply.model_dump_json().encode()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The reply as events. Raises ApiError or VlmDlmError at any time; what is refused is
        raised before the first chunk."""
        comparison = await self._start()
        judge = judge_of(self.services, comparison)
        events = CompareEvents(self.services, judge, self.id, self.drafts)
        chunks = rendered(comparison.steps(), events.tell)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk
        comparison.raise_if_all_failed()
        yield sse({"id": self.id, **judge.summary(comparison).model_dump()}, "summary")

    async def _start(self) -> Comparison:
        self.comparison = await start_comparison(
            self.services,
            self.ask,
            {mode: (mode, params) for mode, params in self.params.items()},
            self.client,
            self.request_id,
            is_parallel=self.is_parallel,
            has_one_deadline=True,
        )
        return self.comparison


def judge_of(services: Services, comparison: Comparison) -> Judge:
    """What came of it."""
    tokenizer = services.checkpoint.processor.tokenizer
    return Judge(
        comparison.runs,
        lambda token_id: tokenizer.decode([token_id], skip_special=False),
        services.runs_on,
    )
