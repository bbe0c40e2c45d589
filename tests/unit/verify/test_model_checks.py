"""Every check of weights gives each of its verdicts, on canned answers and forwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from vlm_dlm.checkpoint.config import ModelConfig, VisionConfig
from vlm_dlm.decoding.block_diffusion import BlockDiffusionParams
from vlm_dlm.events import Stats
from vlm_dlm.report import Answer
from vlm_dlm.verify import model_checks as checks
from vlm_dlm.verify.finding import Outcome
from vlm_dlm.verify.model_table import MODEL_CHECKS
from vlm_dlm.verify.trial import Trial

MASK, OTHER, IM_END, END_OF_TEXT, THINK, END_THINK = 100, 101, 11, 2, 12, 13
TEXT = tuple(range(200, 232))
SMALL = ModelConfig(vocab_size=400, num_hidden_layers=2, hidden_size=64, vision=VisionConfig())
FULL = replace(SMALL, num_hidden_layers=34, hidden_size=4096)
Rows = Callable[[Sequence[int]], Sequence[int]]


def answer(tokens: Sequence[int] = (*TEXT, IM_END), num_forwards: int = 10) -> Answer:
    stats = Stats(
        num_prompt_tokens=0, num_image_tokens=0, num_tokens=len(tokens), num_forwards=num_forwards,
        num_rows=0, queue_s=0.0, vision_s=0.0, prefill_s=0.0, decode_s=0.0, ttft_s=None,
        acceptance_lengths=None, is_prompt_reused=False,
    )  # fmt: skip
    return Answer("ar", "", tuple(tokens), "stop", None, stats)


@dataclass
class Canned:
    """A trial whose model is a table. rows: shown canvas to the likeliest token of each row."""

    by_mode: dict[str, list[Answer]] = field(default_factory=dict)
    unseeded: list[Answer] | None = None
    rows: Rows = list
    config: ModelConfig = SMALL
    is_exact: bool = True
    is_long: bool = False
    max_tokens: int = 96
    runtime: Any = field(
        default_factory=lambda: SimpleNamespace(
            dtype="bfloat16",
            checkpoint=SimpleNamespace(
                processor=SimpleNamespace(
                    tokenizer=SimpleNamespace(
                        special=SimpleNamespace(
                            eos=(IM_END, END_OF_TEXT),
                            im_end=IM_END,
                            think_start=THINK,
                            think_end=END_THINK,
                        )
                    )
                )
            ),
        )
    )

    def answers(self, mode: str, seed_first_token: bool = True) -> list[Answer]:
        if not seed_first_token and self.unseeded is not None:
            return self.unseeded
        return self.by_mode.get(mode, [answer()] * 2)

    def answer(self, prompt: Any, mode: str, options: Any) -> Answer:
        return self.answers(mode)[0]

    def long_prompt(self, num_tokens: int) -> Any:
        return SimpleNamespace(token_ids=range(num_tokens))

    def logits(self, index: int, tail: Sequence[int], is_full: bool) -> Tensor:
        assert is_full
        best = torch.tensor(self.rows(tail))
        return torch.nn.functional.one_hot(best, self.config.vocab_size).float()


def look(name: str, **canned: Any) -> Outcome:
    (check,) = (check for check in MODEL_CHECKS if check.name == name)
    return check.look(cast("Trial", Canned(**canned)))


def knows(offset: int, mask: int = MASK) -> Rows:
    """Rows that know the token `offset` places on, wherever something is hidden by `mask`."""
    whole = (*TEXT, IM_END, 0, 0)
    return lambda shown: [whole[i + offset] if mask in shown else 0 for i in range(len(shown))]


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("alignment", {"rows": knows(0)}, "confirmed"),
    ("alignment", {"rows": knows(1)}, "differs"),
    ("alignment", {"rows": knows(2)}, "could not tell"),
    ("alignment", {"by_mode": {"ar": [answer((1, 2, 11))]}}, "could not tell"),
    ("mask_id", {"rows": knows(0)}, "confirmed"),
    ("mask_id", {"rows": knows(0, OTHER)}, "differs"),
    ("mask_id", {"rows": lambda shown: [0] * len(shown)}, "could not tell"),
    ("seeding", {"unseeded": [answer((*TEXT[:9], 7))] * 2}, "confirmed"),
    (
        "seeding",
        {"by_mode": {"diffusion": [answer((9,) * 33)] * 2}, "unseeded": [answer()] * 2},
        "differs",
    ),
    ("seeding", {"unseeded": [answer(num_forwards=9)] * 2}, "could not tell"),
    ("end_of_answer", {}, "confirmed"),
    ("end_of_answer", {"by_mode": {"ar": [answer((5, END_OF_TEXT))]}}, "differs"),
    ("end_of_answer", {"by_mode": {"ar": [answer(TEXT)]}}, "could not tell"),
    ("no_thoughts", {}, "confirmed"),
    ("no_thoughts", {"by_mode": {"diffusion": [answer((5, END_THINK, 11))]}}, "differs"),
    *(
        (f"{mode}_lossless", {"by_mode": {f"{mode}_spec": found}, "is_exact": exact}, verdict)
        for mode in ("linear", "quadratic")
        for found, exact, verdict in (
            ([answer()] * 2, True, "confirmed"),
            ([answer(), answer((5, 11))], True, "differs"),
            ([answer(), answer((5, 11))], False, "could not tell"),
        )
    ),
    ("quadratic_positions", {}, "skipped"),
    ("quadratic_positions", {"is_long": True}, "confirmed"),
    (
        "quadratic_positions",
        {"is_long": True, "by_mode": {"quadratic_spec": [answer(TEXT)]}},
        "differs",
    ),
    (
        "quadratic_positions",
        {"is_long": True, "by_mode": {"ar": [answer((11,))]}},
        "could not tell",
    ),
    (
        "quadratic_positions",
        {"is_long": True, "config": replace(SMALL, max_position_embeddings=16400)},
        "skipped",
    ),
    *(
        (f"{name}_rate", {"by_mode": {mode: [answer(TEXT * 3, n)]}, "config": config}, verdict)
        for name, mode, per in (("diffusion", "diffusion", 39), ("linear", "linear_spec", 26))
        for n, config, verdict in (
            (per, FULL, "confirmed"),
            (3 * per, FULL, "differs"),
            (per // 3, FULL, "could not tell"),
            (per, SMALL, "skipped"),
        )
    ),
    ("diffusion_rate", {"by_mode": {"diffusion": [answer()]}, "config": FULL}, "could not tell"),
]


@pytest.mark.parametrize(
    ("name", "canned", "verdict"), CASES, ids=[f"{name}-{verdict}" for name, _, verdict in CASES]
)
def test_verdicts(name: str, canned: dict[str, Any], verdict: str) -> None:
    outcome = look(name, **canned)
    assert outcome.verdict == verdict, outcome
    assert outcome.evidence


def test_every_check_but_that_of_torch_is_seen_to_give_both_verdicts() -> None:
    for wanted in ("confirmed", "differs"):
        seen = {name for name, _, verdict in CASES if verdict == wanted}
        assert seen == {check.name for check in MODEL_CHECKS} - {"threshold_rounding"}


def test_how_this_torch_rounds() -> None:
    assert look("threshold_rounding").verdict == "confirmed"


def test_a_setting_that_no_flag_has_says_where_it_is() -> None:
    (check,) = (check for check in MODEL_CHECKS if check.name == "threshold_rounding")
    assert check.setting == "is_native_confidence of BlockDiffusionParams, in Python only"
    assert "is_native_confidence" in {one.name for one in fields(BlockDiffusionParams)}


def test_the_published_targets() -> None:
    figures = checks.PUBLISHED[(34, 4096, True)]
    assert (figures.diffusion, figures.linear) == (2.46, 3.63)
