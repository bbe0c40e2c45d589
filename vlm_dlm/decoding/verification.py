"""What the speculative modes share: the first token, and the tokens that a verifier lets stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlm_dlm.decoding.base import ThinkingBudget
from vlm_dlm.decoding.in_order import follow
from vlm_dlm.decoding.sampling import Picked, RowSampler, pick_rows
from vlm_dlm.step import Origin, Token

if TYPE_CHECKING:
    from torch import Tensor


def first_token(prompt_logits: Tensor, sampler: RowSampler, budget: ThinkingBudget) -> Token:
    """The one after the prompt, noted by both. prompt_logits: [V]."""
    rows = prompt_logits.clone()[None]
    picked = follow(rows, pick_rows([rows], [sampler])[0], sampler, ())
    token = Token(
        id=picked.token_ids[0],
        block=0,
        step=0,
        confidence=picked.confidences[0],
        origin=Origin.AR,
        logprobs=picked.logprobs(0, picked.token_ids[0]),
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
            logprobs=picked.logprobs(i, picked.token_ids[i]),
        )
        for i, origin in enumerate(origins)
    ]
