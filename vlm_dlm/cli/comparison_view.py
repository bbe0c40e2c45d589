"""The table of `vlm-dlm compare`: live on stderr while modes run, final on stdout."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from types import TracebackType

from rich import box
from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vlm_dlm.cli.output import circumstances, stderr_console
from vlm_dlm.events import Committed, Finished, GenerationEvent, Started
from vlm_dlm.report import ModeResult, Report
from vlm_dlm.request import REFERENCE_MODE

REFRESH_S = 0.5  # drawing takes time from the run that is being measured, so it is rare


class ComparisonView:
    """A context manager around the run, then `show`. Silent while running without a terminal."""

    def __init__(self, modes: Sequence[str]) -> None:
        self._texts = dict.fromkeys(modes, "")
        self._figures = dict.fromkeys(modes, "waiting")
        self._drawn_s = perf_counter()
        console = stderr_console()
        self._live = None
        if console.is_terminal:
            self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> ComparisonView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def on_event(self, event: GenerationEvent) -> None:
        """Take one event of the running mode; requests are named after their mode."""
        if self._live is None or event.request_id not in self._texts:
            return
        mode = event.request_id
        if isinstance(event, Started):
            self._figures[mode] = "running"
        if isinstance(event, Committed | Finished):
            self._texts[mode] += event.text
        if isinstance(event, Finished):
            self._figures[mode] = f"{event.stats.tokens_per_s:.0f} tokens/s"
        if isinstance(event, Finished) or perf_counter() - self._drawn_s > REFRESH_S:
            self._live.update(self._table(), refresh=True)
            self._drawn_s = perf_counter()

    def _table(self) -> Table:
        table = Table("mode", "text", "", box=box.SIMPLE)
        for mode, text in self._texts.items():
            table.add_row(mode, Text(text), self._figures[mode])
        return table

    def show(self, report: Report, is_warm: bool) -> None:
        """Texts, the table of figures, and what the figures are worth."""
        console = Console(highlight=False)
        for text, modes in distinct_texts(report).items():
            console.print(Text(", ".join(modes), style="bold"))
            console.print(Padding(Text(text), (0, 0, 1, 2)))
        console.print(comparison_table(report))
        for line in difference_lines(report):
            console.print(line, style="dim")
        console.print(
            f"Image {1000 * report.vision_s:.0f} ms ({report.image_tokens} tokens), "
            f"prompt {1000 * report.prefill_s:.0f} ms ({report.prompt_tokens} tokens), "
            "computed once for all modes.",
            style="dim",
        )
        console.print(
            f"{report.model} on {circumstances(report.device, report.dtype)}; "
            f"batch 1, one {'warm' if is_warm else 'cold'} run.",
            style="dim",
        )


def comparison_table(report: Report) -> Table:
    """One row per mode. Speed-up is in tokens/s against `ar`."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("mode", no_wrap=True)
    for name in ("tokens", "forwards", "tokens/\nforward", "tokens/s", "speed-up"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("same\nas ar", no_wrap=True)
    base = next((r.tokens_per_s for r in report.results if r.mode == REFERENCE_MODE), None)
    for result in report.results:
        table.add_row(result.mode, *_figures(result, base))
    return table


def difference_lines(report: Report) -> list[str]:
    """Where each mode first differs from `ar`, and how near `ar` was to choosing otherwise."""
    lines: list[str] = []
    for result in report.results:
        if result.first_difference is None:
            continue
        margin = result.margin
        apart = "" if margin is None else f", where ar's two best logits are {margin:.3g} apart"
        lines.append(
            f"{result.mode} differs from ar at token {result.first_difference + 1}{apart}."
        )
    return lines


def distinct_texts(report: Report) -> dict[str, list[str]]:
    """Every text once, with the modes that wrote it."""
    texts: dict[str, list[str]] = {}
    for result in report.results:
        texts.setdefault(result.text, []).append(result.mode)
    return texts


def _figures(result: ModeResult, base: float | None) -> list[str]:
    is_same = {None: "-", True: "yes", False: "no"}[result.identical_to_ar]
    return [
        str(result.num_tokens),
        str(result.num_forwards),
        f"{result.tokens_per_forward:.1f}",
        f"{result.tokens_per_s:.0f}",
        f"{result.tokens_per_s / base:.1f} x" if base else "-",
        is_same,
    ]
