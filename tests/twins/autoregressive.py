"""`ar_generate`: docs/decoding.md, section 1, line by line."""

from __future__ import annotations

from tests.twins.chooser import Chooser
from tests.twins.forward import Forward, Mode, Outcome


def ar_generate(
    forward: Forward,
    prompt: list[int],
    max_new_tokens: int,
    *,
    eos: int,
    chooser: Chooser,
    max_thinking_tokens: int | None = None,
    end_think: int | None = None,
) -> Outcome:
    cache: list[int] = []
    logits = forward(prompt, cache, Mode.C, write=True)[-1:]  # 1, not counted
    generated: list[int] = []
    nfe = 0
    for step in range(max_new_tokens):  # 2
        nfe += 1
        token = chooser.pick(logits)[0]  # 2a
        if (  # 2b
            max_thinking_tokens is not None
            and end_think is not None
            and step >= max_thinking_tokens
            and end_think not in generated
        ):
            token = end_think
        generated.append(token)  # 2c
        if token == eos:
            break
        if step < max_new_tokens - 1:  # 2d
            logits = forward([token], cache, Mode.C, write=True)
    return Outcome(generated, nfe)  # 3
