"""What the routes share, built once per server and passed down. No globals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

if TYPE_CHECKING:
    from vlm_dlm.preflight import Checkpoint
    from vlm_dlm.serving.managed import ManagedEngine
    from vlm_dlm.serving.preparation import Preparer
    from vlm_dlm.serving.service import Service
    from vlm_dlm_app.idempotency import IdempotencyStore
    from vlm_dlm_app.lifecycle import Lifecycle
    from vlm_dlm_app.media.fetcher import Fetcher
    from vlm_dlm_app.metrics import Metrics
    from vlm_dlm_app.settings import Settings
    from vlm_dlm_app.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Services:
    """fetcher: None where fetching images by URL is switched off. began_s: seconds since 1970.
    tracing: None unless it is asked for."""

    settings: Settings
    checkpoint: Checkpoint
    engine: ManagedEngine
    service: Service
    preparer: Preparer
    fetcher: Fetcher | None
    metrics: Metrics
    idempotency: IdempotencyStore
    lifecycle: Lifecycle
    began_s: int
    tracing: Tracing | None = None

    def runs_on(self, mode: str) -> tuple[str, str]:
        """Device and number format of what runs this mode; before it has loaded, what it was told
        to."""
        state = self.engine.state_of(mode)
        return state.device or self.settings.device, state.dtype or self.settings.dtype

    @property
    def retry_after_s(self) -> int:
        """Whole seconds after which a server that takes nothing now is worth asking again."""
        ending = self.lifecycle
        return ending.retry_after_s if ending.is_draining else self.engine.state.retry_after_s


async def services_of(request: Request) -> Services:
    """The server's parts, as `create_app` left them. Async, or it would run in a thread."""
    return request.app.state.services


ServicesDep = Annotated[Services, Depends(services_of)]
