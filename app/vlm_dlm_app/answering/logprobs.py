"""Log-probabilities of an answer's tokens, as OpenAI's clients read them."""

from __future__ import annotations

from collections.abc import Iterable

from vlm_dlm.processor.tokenizer import Tokenizer
from vlm_dlm.step import Token
from vlm_dlm_app.schemas.chat import AnswerLogprobs, TokenLogprob, TopLogprob

# JSON has no infinity; OpenAI sends this for what is as good as impossible.
LEAST = -9999.0


def logprobs_of(
    tokenizer: Tokenizer, tokens: Iterable[Token], *, skip_special: bool = True
) -> AnswerLogprobs:
    """Of those that were kept; tokens without a text, as the end, are left out. skip_special: those
    have none."""
    return AnswerLogprobs(
        content=[
            TokenLogprob(
                **_one(tokenizer, token.id, token.logprobs.own).model_dump(),
                top_logprobs=[_one(tokenizer, *entry) for entry in token.logprobs.top],
            )
            for token in tokens
            if token.logprobs is not None and tokenizer.token_bytes(token.id, skip_special)
        ]
    )


def _one(tokenizer: Tokenizer, token_id: int, logprob: float) -> TopLogprob:
    data = tokenizer.token_bytes(token_id, skip_special=False)
    return TopLogprob(
        token=data.decode("utf-8", "replace"), logprob=max(logprob, LEAST), bytes=list(data)
    )
