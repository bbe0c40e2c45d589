"""What a comparison cost, where some engines say what their prompts took and others do not."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

from tests.unit.app.test_answers import STATS
from vlm_dlm.events import Finished, GenerationEvent, Stats
from vlm_dlm.request import GenerationRequest, PromptInput
from vlm_dlm.serving.queue.service import Ticket
from vlm_dlm_app.answering.comparison import Comparison, Judge
from vlm_dlm_app.schemas.compare import Summary

COPIED = replace(STATS, vision_s=0.0, prefill_s=0.002, is_prompt_reused=True)
UNTOLD = replace(STATS, vision_s=None, prefill_s=None)


async def nothing(ticket: Ticket, is_first: bool) -> AsyncGenerator[GenerationEvent]:
    return
    yield


def summary(*all_stats: Stats) -> Summary:
    """Of modes that ended with these figures."""
    tickets = {
        str(number): Ticket(GenerationRequest(str(number), PromptInput((1,))))
        for number in range(len(all_stats))
    }
    comparison = Comparison(nothing, tickets)
    for run, stats in zip(comparison.runs.values(), all_stats, strict=True):
        run.answer.add(Finished("1", "stop", "", stats, 0.0))
    judge = Judge(comparison.runs, str, lambda mode: ("cpu", "float32"))
    return judge.summary(comparison)


def costs(*all_stats: Stats) -> tuple[float | None, float | None, bool]:
    found = summary(*all_stats)
    return found.vision_ms, found.prefill_ms, found.is_prompt_cached


def test_the_mode_that_computed_the_prompt_counts() -> None:
    assert costs(STATS, COPIED) == (100.0, 300.0, False)


def test_without_one_the_copy_counts() -> None:
    assert costs(COPIED, COPIED) == (0.0, 2.0, True)


def test_an_engine_that_does_not_say_counts_only_alone() -> None:
    assert costs(UNTOLD, STATS, COPIED) == (100.0, 300.0, False)
    assert costs(UNTOLD, COPIED) == (0.0, 2.0, True)
    assert costs(UNTOLD) == (None, None, False)


def test_where_nothing_ended_it_is_zero() -> None:
    found = Judge({}, str, lambda mode: ("", "")).summary(
        Comparison(nothing, {"ar": Ticket(GenerationRequest("1", PromptInput((1,))))})
    )
    assert (found.vision_ms, found.prefill_ms, found.is_prompt_cached) == (0.0, 0.0, False)
