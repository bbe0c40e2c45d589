"""`linear_spec_generate`: docs/decoding.md, section 3, line by line."""

from __future__ import annotations

from tests.twins.chooser import Chooser
from tests.twins.forward import Forward, Mode, Outcome


def linear_spec_generate(
    forward: Forward,
    prompt: list[int],
    max_new_tokens: int,
    *,
    block_length: int,
    mask: int,
    eos: int,
    chooser: Chooser,
    threshold: float = 0.0,
    adapter: bool = False,
    max_thinking_tokens: int | None = None,
    end_think: int | None = None,
) -> Outcome:
    cache: list[int] = []
    logits = forward(prompt, cache, Mode.C, write=True)  # 1
    out = Outcome([], nfe=1)
    pending = chooser.pick(logits[-1:])[0]
    out.tokens.append(pending)
    if pending == eos:
        return out
    while len(out.tokens) < max_new_tokens:  # 2
        num_cached = len(cache)
        x = [pending] + [mask] * (block_length - 1)  # 2a
        out.nfe += _draft(forward, x, cache, mask, threshold, chooser, adapter)  # 2b
        choice = chooser.pick(forward(x, cache, Mode.C, write=True))  # 2c
        out.nfe += 1
        num_accepted = 0  # 2d
        while num_accepted < block_length - 1 and choice[num_accepted] == x[num_accepted + 1]:
            num_accepted += 1
        emitted = choice[: num_accepted + 1]  # 2e
        out.acceptance.append(len(emitted))
        del cache[num_cached + len(emitted) :]  # 2f
        pending = emitted[-1]
        out.tokens += emitted
        if eos in emitted:  # 2g
            del out.tokens[out.tokens.index(eos) + 1 :]
            break
        # 2h and section 6: conditions what follows, is never written out
        if (
            max_thinking_tokens is not None
            and end_think is not None
            and len(out.tokens) > max_thinking_tokens
            and end_think not in out.tokens
        ):
            pending = end_think
    return out  # 3


def _draft(
    forward: Forward,
    x: list[int],
    cache: list[int],
    mask: int,
    threshold: float,
    chooser: Chooser,
    adapter: bool,
) -> int:
    """Line 2b: fills x in place and returns the number of forwards."""
    num_forwards = 0
    while mask in x:
        num_forwards += 1
        logits = forward(x, cache, Mode.D, adapter=adapter)
        x0 = chooser.pick(logits)
        conf = chooser.drawn_confidence(logits, x0)
        masked = [p for p, token in enumerate(x) if token == mask]
        chosen = [p for p in masked if bool(conf[p] >= threshold)]
        if not chosen:
            chosen = [max(masked, key=lambda p: float(conf[p]))]
        for p in chosen:
            x[p] = x0[p]
    return num_forwards
