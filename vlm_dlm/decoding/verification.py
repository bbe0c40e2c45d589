"""What the speculative modes share: the first token, and the tokens that a verifier lets stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlm_dlm.decoding.base import ThinkingBudget
from vlm_dlm.decoding.sampling import Picked, RowSampler, pick_rows
from vlm_dlm.step import Origin, Token

if TYPE_CHECKING:
    from torch import Tensor


def first_token(prompt_logits: Tensor, sampler: RowSampler, budget: ThinkingBudget) -> Token:
    """The one after the prompt, noted by both. prompt_logits: [V]."""
    picked = pick_rows([prompt_logits.clone()[None]], [sampler])[0]
    token = Token(
        id=picked.token_ids[0],
        block=0,
        step=0,
        confidence=picked.confidences[0],
        origin=Origin.AR,
    )
    budget.note([token.id])
    sampler.note([token.id])
    return token


def verified_tokens(
    picked: Picked, num_accepted: int, last: Origin, *, block: int, step: int
) -> list[Token]:
    """The accepted drafts and the verifier's next choice. picked: of the verifier, by place.
    last: where that choice comes from."""
    origins = [Origin.DRAFTED] * num_accepted + [last]
    return [
        Token(
            id=picked.token_ids[i],
            block=block,
            step=step,
            confidence=picked.confidences[i],
            origin=origin,
        )
        for i, origin in enumerate(origins)
    ]
