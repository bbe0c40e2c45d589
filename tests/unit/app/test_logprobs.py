"""Log-probabilities as OpenAI's clients read them."""

from __future__ import annotations

from vlm_dlm.preflight import open_checkpoint
from vlm_dlm.step import Logprobs, Origin, Token
from vlm_dlm_app.answering.logprobs import LEAST, logprobs_of


def test_each_token_with_a_text_has_its_bytes_and_the_best_at_its_place() -> None:
    tokenizer = open_checkpoint(None).processor.tokenizer
    one, two = tokenizer.encode_text("ü")[:1], tokenizer.encode_text(" circle")[:1]
    end = tokenizer.special.eos[0]

    def token(token_id: int, *top: tuple[int, float]) -> Token:
        return Token(token_id, 0, 1, 0.5, Origin.AR, logprobs=Logprobs(-0.5, top))

    tokens = [
        token(one[0], (two[0], -0.1), (end, float("-inf"))),
        Token(two[0], 0, 1, 0.5, Origin.AR),  # nothing was asked for
        token(end, (end, 0.0)),
    ]
    (found,) = logprobs_of(tokenizer, tokens).content
    assert bytes(found.bytes) == tokenizer.token_bytes(one[0])
    assert found.logprob == -0.5
    assert [bytes(top.bytes) for top in found.top_logprobs] == [
        tokenizer.token_bytes(two[0]),
        tokenizer.token_bytes(end, skip_special=False),
    ]
    assert found.top_logprobs[1].logprob == LEAST
