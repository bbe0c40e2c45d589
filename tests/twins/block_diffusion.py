"""`generate`: docs/decoding.md, section 2, line by line, for one row."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tests.twins.chooser import Chooser
from tests.twins.forward import Forward, Mode, Outcome


@dataclass(frozen=True)
class Options:
    """Arguments of `generate`. steps: S, denoising forwards per block; None means B.

    is_exact: leave masks where S runs out, as the reference does; else the last allowed step fills
    all that is left.
    """

    block_length: int
    threshold: float | None = 0.9
    steps: int | None = None
    seed_first_token: bool = True
    is_exact: bool = False
    max_thinking_tokens: int | None = None
    end_think: int | None = None


def generate(
    forward: Forward,
    prompt: list[int],
    max_new_tokens: int,
    options: Options,
    *,
    mask: int,
    eos: int,
    chooser: Chooser,
) -> Outcome:
    length = options.block_length
    assert max_new_tokens % length == 0, "the document asks for whole blocks"
    cache: list[int] = []
    logits = forward(prompt, cache, Mode.C, write=True)  # 1, not counted
    seed = chooser.pick(logits[-1:])[0] if options.seed_first_token else mask
    generated: list[int] = []
    nfe = 0
    for block in range(max_new_tokens // length):  # 2
        x = [mask] * length
        x[0] = seed if options.seed_first_token else mask  # 2a
        _force_end_of_thought(x, block, generated, options)  # 2b
        nfe += _denoise(forward, x, cache, options, mask, eos, chooser)  # 2c, 2d
        logits = forward(x, cache, Mode.C, write=True)  # 2e, runs after an early stop as well
        nfe += 1
        seed = chooser.pick(logits[-1:])[0]
        generated += x
        if eos in generated:  # 2f
            return Outcome(generated[: generated.index(eos) + 1], nfe)
    return Outcome(generated, nfe)  # 3


def _force_end_of_thought(x: list[int], block: int, generated: list[int], options: Options) -> None:
    """Section 6, block diffusion."""
    budget, end, length = options.max_thinking_tokens, options.end_think, options.block_length
    if budget is None or end is None or end in generated:
        return
    if (block + 1) * length > budget:
        x[max(0, budget - block * length)] = end


def _denoise(
    forward: Forward,
    x: list[int],
    cache: list[int],
    options: Options,
    mask: int,
    eos: int,
    chooser: Chooser,
) -> int:
    """Lines 2c and 2d: fills x in place and returns the number of forwards."""
    num_steps = options.steps or options.block_length
    num_masked = x.count(mask)  # 2c
    schedule = [num_masked // num_steps] * num_steps
    for i in range(num_masked % num_steps):
        schedule[i] += 1
    num_forwards = 0
    for i in range(num_steps):  # 2d
        if mask not in x:
            break
        num_forwards += 1
        logits = forward(x, cache, Mode.D)
        x0 = chooser.pick(logits)
        conf = chooser.plain_confidence(logits, x0)
        masked = [p for p, token in enumerate(x) if token == mask]
        is_last = i == num_steps - 1
        for p in _chosen(masked, conf, options, schedule[i], is_last):
            x[p] = x0[p]
        if eos in x and mask not in x[: x.index(eos)]:
            break
    return num_forwards


def _chosen(
    masked: list[int], conf: Tensor, options: Options, share: int, is_last: bool
) -> list[int]:
    """Which masked positions are committed. conf: [B]."""
    best_first = sorted(masked, key=lambda p: float(conf[p]), reverse=True)
    if is_last and not options.is_exact:
        return best_first
    if options.threshold is None:
        return best_first[:share]
    passes = conf >= options.threshold  # compared by torch, in the dtype of the confidences
    return best_first[:1] + [p for p in best_first[1:] if bool(passes[p])]
