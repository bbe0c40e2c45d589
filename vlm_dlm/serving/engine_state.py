"""How an engine with a life of its own is doing, as health checks and metrics show it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# When to come back, whole seconds: while it loads; when another server may stand here, after this
# one was told to end; when an operator is needed.
SOON_S, ENDING_S, LATER_S = 2, 5, 60


class Phase(StrEnum):
    """Only READY takes requests. STALLED has loaded and does not get on; it comes back, or is
    started again. DOWN is for good: it takes an operator to start again."""

    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    STALLED = "stalled"
    DOWN = "down"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class EngineState:
    """How an engine is doing.

    progress: 0 to 1 within the phase.
    reason: why it is not ready, or why it last was not; a sentence without a full stop.
    num_restarts: of the process that serves, after it was lost.
    device, dtype: what it runs on, empty before it has loaded once.
    """

    phase: Phase = Phase.LOADING
    progress: float = 0.0
    reason: str = ""
    num_restarts: int = 0
    device: str = ""
    dtype: str = ""

    @property
    def is_final(self) -> bool:
        """Whether it will never be READY again."""
        return self.phase in (Phase.DOWN, Phase.CLOSED)

    @property
    def retry_after_s(self) -> int:
        """Whole seconds after which it is worth asking again, unless it is READY."""
        return {Phase.DOWN: LATER_S, Phase.CLOSED: ENDING_S}.get(self.phase, SOON_S)
