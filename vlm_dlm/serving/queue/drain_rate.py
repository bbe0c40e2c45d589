"""How fast requests leave, and so how long one that is turned away should wait."""

from __future__ import annotations

import math
from collections import deque

MIN_WAIT_S, MAX_WAIT_S = 1, 60


class DrainRate:
    """Requests ended per second over the last few. Moments in seconds on one monotonic clock."""

    def __init__(self, num_kept: int = 32, window_s: float = 30.0) -> None:
        self.window_s = window_s
        self._ends: deque[float] = deque(maxlen=num_kept)

    def note_end(self, now_s: float) -> None:
        """A request came to its end."""
        self._ends.append(now_s)

    def per_second(self, now_s: float) -> float | None:
        """None until a request has ended. Where fewer than two did within the window, requests end
        slowly: the rate is at most one since the last but one end."""
        if not self._ends:
            return None
        recent = [end for end in self._ends if now_s - end <= self.window_s]
        if len(recent) < 2:
            recent = list(self._ends)[-2:]
        return max(len(recent) - 1, 1) / max(now_s - recent[0], 1e-3)

    def retry_after_s(self, num_ahead: int, now_s: float) -> int:
        """Whole seconds until `num_ahead` requests will have left, 1 to 60."""
        rate = self.per_second(now_s)
        wait = MIN_WAIT_S if rate is None else math.ceil(num_ahead / rate)
        return min(MAX_WAIT_S, max(MIN_WAIT_S, wait))
