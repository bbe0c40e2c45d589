"""Which speeds say something. The first token comes out of the prompt's forward, so the time of
writing holds nothing of it: an answer of one token has no speed.
"""

from __future__ import annotations

LEAST_TOKENS = 2
TOO_SHORT = "too short to measure"
LEAST_QUEUE_MS = 5.0  # less is not worth a word


def speed_of(num_tokens: int, tokens_per_second: float) -> float | None:
    """None for an answer that is too short to have one."""
    return tokens_per_second if num_tokens >= LEAST_TOKENS else None


def queue_words(queue_ms: float | None) -> str:
    """What of a time to the first token was spent in the queue; "" where it is next to nothing."""
    if queue_ms is None or queue_ms <= LEAST_QUEUE_MS:
        return ""
    return f", of that {queue_ms:.0f} ms in the queue"


def duration_words(ms: float) -> str:
    """Milliseconds for people; `static/parts.js` has the same for the page."""
    if ms >= 1000:
        return f"{ms / 1000:.2f} s"
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"
