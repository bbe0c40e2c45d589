"""The table of `compare`."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from vlm_dlm.cli.comparison_view import comparison_table, distinct_texts
from vlm_dlm.report import ModeResult, Report

AR = ModeResult("ar", "A star.", (1, 2), 2, 2, 1.0, 0.1, 20.0, 0.2, "stop", True, None)
FAST = replace(AR, mode="linear_spec", num_forwards=1, tokens_per_s=60.0, acceptance_lengths=(1,))
OTHER = replace(AR, mode="diffusion", text="A circle.", token_ids=(1, 3), identical_to_ar=False)


def report(*results: ModeResult) -> Report:
    return Report("m", "cpu", "float32", 4, 9, 0.01, 0.02, results)


def rendered(*results: ModeResult) -> str:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(comparison_table(report(*results)))
    return capture.get()


def test_speed_up_is_against_ar() -> None:
    text = rendered(AR, FAST, OTHER)
    assert "3.0 x" in text
    assert text.count("yes") == 2
    assert text.count(" no") == 1


def test_without_ar_there_is_nothing_to_compare_with() -> None:
    assert " x" not in rendered(replace(FAST, identical_to_ar=None))


def test_a_text_is_shown_once() -> None:
    texts = distinct_texts(report(AR, OTHER, FAST))
    assert texts == {"A star.": ["ar", "linear_spec"], "A circle.": ["diffusion"]}


def test_nothing_is_cut_off_at_80_columns() -> None:
    assert "…" not in rendered(AR, FAST, OTHER)
