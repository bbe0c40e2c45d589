"""Blocks that are still being written, and tokens, as clients are shown them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlm_dlm.events import Canvas
from vlm_dlm.processor.tokenizer import Tokenizer
from vlm_dlm.step import Token


def draft_of(tokenizer: Tokenizer, canvas: Canvas) -> dict[str, Any]:
    """tokens: the texts of the block's tokens, null where nothing is written yet."""
    mask = tokenizer.special.mask
    tokens = [None if id_ == mask else tokenizer.decode([id_]) for id_ in canvas.token_ids]
    return {"num_forwards": canvas.num_forwards, "tokens": tokens}


def tokens_of(tokens: Sequence[Token]) -> list[list[Any]]:
    """One row per final token: id, origin, block, step, confidence."""
    return [
        [token.id, str(token.origin), token.block, token.step, round(token.confidence, 4)]
        for token in tokens
    ]
