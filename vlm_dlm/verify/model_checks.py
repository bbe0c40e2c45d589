"""What the weights say: each check looks at greedy answers or at one forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from vlm_dlm.report import Answer
from vlm_dlm.request import REFERENCE_MODE
from vlm_dlm.verify.finding import Outcome, Verdict, compared, skipped, unclear
from vlm_dlm.verify.published import PUBLISHED, Published
from vlm_dlm.verify.trial import LONG_LIMIT, NUM_LONG, Trial

MAX_CANVAS = 32
PERIOD, PAIR = 4, (2, 3)  # of four tokens the last two are masked
LEAST_MASKED = 8  # pairs of masks, for shares that mean something
LEAST_LONG = 8  # tokens of an answer to a long prompt
CLEAR = 0.1  # a difference of shares that means something
LEAST_TOKENS = 64  # of all answers together, for figures per forward
BAND = (0.6, 1.7)  # measured over published, for a handful of other prompts


def alignment(trial: Trial) -> Outcome:
    """Full forward over an answer with pairs of tokens masked: does the row of the second mask know
    its own token, or does the row of the first?

    Rows of tokens that are shown tell nothing: they know the next token, as in a causal forward.
    """
    aligned = shifted = total = 0
    for canvas, best in _canvases(trial, trial.config.mask_token_id):
        for i in range(PAIR[1], len(canvas), PERIOD):
            aligned += best[i] == canvas[i]
            shifted += best[i - 1] == canvas[i]
            total += 1
    if total < LEAST_MASKED:
        return unclear(f"the answers are too short: {total} pairs of masks")
    shares = (aligned / total, shifted / total)
    evidence = (
        f"of {total} tokens, their own row knows {shares[0]:.2f}, the row before {shares[1]:.2f}"
    )
    return _by_margin(shares[0] - shares[1], evidence)


def mask_id(trial: Trial) -> Outcome:
    """The same forward with the mask replaced by another reserved id: which one asks the model to
    fill in?"""
    own, other = trial.config.mask_token_id, _other_mask(trial)
    shares: dict[int, float] = {}
    for mask in (own, other):
        right = total = 0
        for canvas, best in _canvases(trial, mask):
            places = [i for i in range(len(canvas)) if i % PERIOD in PAIR]
            right += sum(best[i] == canvas[i] for i in places)
            total += len(places)
        if total < 2 * LEAST_MASKED:
            return unclear(f"the answers are too short: {total} masked tokens")
        shares[mask] = right / total
    evidence = f"tokens known after {own}: {shares[own]:.2f}, after {other}: {shares[other]:.2f}"
    return _by_margin(shares[own] - shares[other], evidence)


def seeding(trial: Trial) -> Outcome:
    """Block diffusion with and without the causal head's choice in front of each block."""
    ar = trial.answers(REFERENCE_MODE)
    figures: dict[bool, tuple[float, float]] = {}
    for is_seeded in (True, False):
        answers = trial.answers("diffusion", seed_first_token=is_seeded)
        figures[is_seeded] = (_agreement(answers, ar), _per_forward(answers))
    (same, rate), (plain_same, plain_rate) = figures[True], figures[False]
    evidence = (
        f"seeded: {same:.2f} of the tokens as ar, {rate:.2f} tokens per forward; "
        f"unseeded: {plain_same:.2f}, {plain_rate:.2f}"
    )
    if plain_same > same + CLEAR and plain_rate >= rate:
        return Outcome(Verdict.DIFFERS, evidence)
    if same >= plain_same and rate >= plain_rate:
        return Outcome(Verdict.CONFIRMED, evidence)
    return unclear(evidence)


def linear_lossless(trial: Trial) -> Outcome:
    """Linear self-speculation says what `ar` says."""
    return _lossless(trial, "linear_spec")


def quadratic_lossless(trial: Trial) -> Outcome:
    """Quadratic self-speculation says what `ar` says."""
    return _lossless(trial, "quadratic_spec")


def quadratic_positions(trial: Trial) -> Outcome:
    """The same past the position where queries begin to be scaled."""
    limit = trial.config.rope.original_max_position_embeddings
    if limit > LONG_LIMIT and not trial.is_long:
        return skipped(f"takes a prompt of more than {limit} tokens; --long asks for it")
    if limit + NUM_LONG + trial.max_tokens > trial.config.max_position_embeddings:
        return skipped(f"the context ends before position {limit + NUM_LONG}")
    prompt = trial.long_prompt(limit + NUM_LONG)
    ar, quadratic = (trial.answer(prompt, mode, {}) for mode in (REFERENCE_MODE, "quadratic_spec"))
    evidence = (
        f"after {len(prompt.token_ids)} tokens, {_agreement([quadratic], [ar]):.2f} of "
        f"{len(ar.token_ids)} tokens as ar"
    )
    if len(ar.token_ids) < LEAST_LONG:
        return unclear(f"{evidence}; too few tokens to compare")
    return _equal(trial, quadratic.token_ids == ar.token_ids, evidence)


def end_of_answer(trial: Trial) -> Outcome:
    """Which id the model ends its answers with."""
    special = trial.runtime.checkpoint.processor.tokenizer.special
    ends = [answer.token_ids[-1] for answer in trial.answers(REFERENCE_MODE) if answer.token_ids]
    counts = {token: ends.count(token) for token in special.eos}
    num = sum(counts.values())
    if not num:
        return unclear(f"none of {len(ends)} answers ended within {trial.max_tokens} tokens")
    evidence = ", ".join(f"{n} answers end with {token}" for token, n in counts.items())
    return compared(counts[special.im_end] == num, evidence)


def no_thoughts(trial: Trial) -> Outcome:
    """With thinking off no answer opens or closes a thought."""
    special = trial.runtime.checkpoint.processor.tokenizer.special
    marks = {special.think_start, special.think_end}
    modes = (REFERENCE_MODE, "diffusion")
    answers = [answer for mode in modes for answer in trial.answers(mode)]
    num = sum(token in marks for answer in answers for token in answer.token_ids)
    evidence = f"{num} think markers in {len(answers)} answers of {' and '.join(modes)}"
    return compared(num == 0, evidence)


def diffusion_rate(trial: Trial) -> Outcome:
    """Tokens per forward of block diffusion against the published figure."""
    return _rate(trial, "diffusion", lambda figures: figures.diffusion)


def linear_rate(trial: Trial) -> Outcome:
    """Tokens per forward of linear self-speculation against the published figure."""
    return _rate(trial, "linear_spec", lambda figures: figures.linear)


def threshold_rounding(trial: Trial) -> Outcome:
    """How this torch compares a bfloat16 confidence with a threshold of 0.9."""
    below = torch.tensor(0.8984375, dtype=torch.bfloat16)
    is_rounded = bool(below >= 0.9)
    return compared(is_rounded, f"0.8984375 {'passes' if is_rounded else 'does not pass'} 0.9")


def _canvases(trial: Trial, mask: int) -> Iterator[tuple[list[int], list[int]]]:
    """Of every prompt: the first tokens of its answer, and each row's likeliest token in a full
    forward over them with two of every four masked."""
    never = torch.tensor([trial.config.mask_token_id])
    for index, answer in enumerate(trial.answers(REFERENCE_MODE)):
        canvas = list(answer.token_ids[:MAX_CANVAS])
        shown = [mask if i % PERIOD in PAIR else token for i, token in enumerate(canvas)]
        if canvas:
            logits = trial.logits(index, shown, is_full=True)
            yield canvas, logits.index_fill(1, never, -torch.inf).argmax(-1).tolist()


def _other_mask(trial: Trial) -> int:
    """The added token that is called a mask, else the reserved id after ours."""
    own = trial.config.mask_token_id
    return trial.config.vocab_size - 1 if trial.config.vocab_size == 131073 else own + 1


def _lossless(trial: Trial, mode: str) -> Outcome:
    ar, own = trial.answers(REFERENCE_MODE), trial.answers(mode)
    num = sum(a.token_ids == b.token_ids for a, b in zip(ar, own, strict=True))
    evidence = f"{num} of {len(ar)} answers equal, {_agreement(own, ar):.2f} of the tokens"
    return _equal(trial, num == len(ar), evidence)


def _equal(trial: Trial, is_equal: bool, evidence: str) -> Outcome:
    if is_equal or trial.is_exact:
        return compared(is_equal, evidence)
    return unclear(f"{evidence}; near ties may flip in {trial.runtime.dtype}")


def _agreement(answers: Sequence[Answer], ar: Sequence[Answer]) -> float:
    """Share of tokens that stand at the same place."""
    pairs = [(a.token_ids, b.token_ids) for a, b in zip(answers, ar, strict=True)]
    same = sum(x == y for a, b in pairs for x, y in zip(a, b, strict=False))
    return same / max(1, sum(max(len(a), len(b)) for a, b in pairs))


def _per_forward(answers: Sequence[Answer]) -> float:
    tokens = sum(answer.stats.num_tokens for answer in answers)
    return tokens / max(1, sum(answer.stats.num_forwards for answer in answers))


def _rate(trial: Trial, mode: str, pick: Callable[[Published], float]) -> Outcome:
    answers = trial.answers(mode)
    measured, tokens = _per_forward(answers), sum(a.stats.num_tokens for a in answers)
    evidence = f"{measured:.2f} tokens per forward over {tokens} tokens"
    config = trial.config
    figures: Published | None = PUBLISHED.get(
        (config.num_hidden_layers, config.hidden_size, config.vision is not None)
    )
    if figures is None:
        return skipped(f"no figures are published for a model of this size; here: {evidence}")
    evidence += f"; published {pick(figures)}"
    ratio = measured / pick(figures)
    if tokens < LEAST_TOKENS:
        return unclear(f"{evidence}; too few tokens to compare")
    if ratio > BAND[1]:
        return unclear(f"{evidence}; these prompts are easier than the published benchmarks")
    return compared(ratio >= BAND[0], evidence)


def _by_margin(margin: float, evidence: str) -> Outcome:
    if abs(margin) < CLEAR:
        return unclear(evidence)
    return compared(margin > 0, evidence)
