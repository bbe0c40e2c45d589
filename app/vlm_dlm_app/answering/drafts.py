"""Blocks that are still being written, and tokens, as clients are shown them."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from vlm_dlm.events import Canvas
from vlm_dlm.processor.tokenizer import Tokenizer
from vlm_dlm.step import Token
from vlm_dlm_app.schemas.generate import Options


class DraftPace:
    """Which drafts a stream shows: none, or at most one per interval and answer."""

    def __init__(self, interval_s: float | None = None) -> None:
        self._interval_s = interval_s
        self._last_s: dict[str, float] = {}

    @classmethod
    def of(cls, options: Options) -> DraftPace:
        """As a client asks for it."""
        return cls(options.draft_interval_ms / 1000 if options.include_drafts else None)

    def is_due(self, name: str, time_s: float) -> bool:
        """Whether to show this one. name: of the answer; time_s: on any one clock."""
        if self._interval_s is None or time_s - self._last_s.get(name, -inf) < self._interval_s:
            return False
        self._last_s[name] = time_s
        return True


def draft_of(tokenizer: Tokenizer, canvas: Canvas) -> dict[str, Any]:
    """tokens: the texts of the block's tokens, null where nothing is written yet."""
    mask = tokenizer.special.mask
    tokens = [None if id_ == mask else tokenizer.decode([id_]) for id_ in canvas.token_ids]
    return {"num_forwards": canvas.num_forwards, "tokens": tokens}


def tokens_of(tokenizer: Tokenizer, tokens: Sequence[Token]) -> list[list[Any]]:
    """One row per final token: id, origin, block, step, confidence, margin (null in modes that do
    not say), text."""
    return [
        [
            token.id,
            str(token.origin),
            token.block,
            token.step,
            round(token.confidence, 4),
            None if token.margin is None else round(token.margin, 6),
            tokenizer.decode([token.id]),
        ]
        for token in tokens
    ]
