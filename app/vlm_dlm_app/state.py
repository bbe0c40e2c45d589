"""What the routes share, built once per server and passed down. No globals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from vlm_dlm.decoding import MODES

if TYPE_CHECKING:
    from vlm_dlm.grammar.trial import GrammarTrial
    from vlm_dlm.preflight import Checkpoint
    from vlm_dlm.serving.managed import ManagedEngine
    from vlm_dlm.serving.pictures.preparation import Preparer
    from vlm_dlm.serving.queue.service import Service
    from vlm_dlm_app.http.held_bytes import HeldBytes
    from vlm_dlm_app.http.idempotency import IdempotencyStore
    from vlm_dlm_app.http.lifecycle import Lifecycle
    from vlm_dlm_app.http.parsing import BodyWorker
    from vlm_dlm_app.media.fetcher import Fetcher
    from vlm_dlm_app.settings.model import Settings
    from vlm_dlm_app.telemetry.metrics import Metrics
    from vlm_dlm_app.telemetry.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes share.

    fetcher: None where fetching images by URL is switched off.
    began_s: seconds since 1970.
    structures: what looks at the forms that clients ask answers to have.
    tracing: None unless it is asked for.
    """

    settings: Settings
    checkpoint: Checkpoint
    engine: ManagedEngine
    service: Service
    preparer: Preparer
    fetcher: Fetcher | None
    metrics: Metrics
    idempotency: IdempotencyStore
    lifecycle: Lifecycle
    worker: BodyWorker
    held: HeldBytes
    began_s: int
    structures: GrammarTrial
    tracing: Tracing | None = None

    def runs_on(self, mode: str) -> tuple[str, str]:
        """Device and number format of what runs this mode; before it has loaded, what it was told
        to."""
        state = self.engine.state_of(mode)
        return state.device or self.settings.device, state.dtype or self.settings.dtype

    def is_lossless(self, mode: str) -> bool:
        """Whether this server's greedy answers in that mode equal those of `ar` to the token. A
        draft is verified in a forward of many rows: only float32 rounds that as one of a single
        row."""
        kind = MODES[mode]
        return kind.is_lossless and (not kind.is_speculative or self._is_float32(mode))

    def _is_float32(self, mode: str) -> bool:
        """What 'auto' will be is not known before it has loaded; then it is not promised."""
        return self.runs_on(mode)[1].partition(",")[0] == "float32"

    @property
    def retry_after_s(self) -> int:
        """Whole seconds after which a server that takes nothing now is worth asking again."""
        ending = self.lifecycle
        return ending.retry_after_s if ending.is_draining else self.engine.state.retry_after_s


async def services_of(request: Request) -> Services:
    """The server's parts, as `create_app` left them. Async, or it would run in a thread."""
    return request.app.state.services


ServicesDep = Annotated[Services, Depends(services_of)]
