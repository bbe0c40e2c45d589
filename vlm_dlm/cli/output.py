"""What the commands write: answers and JSON to stdout, everything else to stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from vlm_dlm.sizes import size_text

if TYPE_CHECKING:
    from rich.console import Console

    from vlm_dlm.report import Report


def write_json(document: dict[str, Any]) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def write_text(text: str) -> None:
    """A piece of an answer on stdout, at once."""
    typer.echo(text, nl=False)


def write_note(text: str) -> None:
    """A dim line on stderr."""
    stderr_console().print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


def stderr_console() -> Console:
    """A console on stderr; plain text where that is no terminal."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def load_progress() -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar over bytes while weights load; None, and no output, without a terminal."""
    console = stderr_console()
    if not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("Loading"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("")
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def byte_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Progress of (phase, done, total) bytes: a bar with speed and time left on a terminal, else
    one line on stderr per phase and twentieth part."""
    console = stderr_console()
    if not console.is_terminal:
        yield StepLines()
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("")
        yield lambda phase, done, total: bar.update(
            task, description=phase, completed=done, total=total
        )


class StepLines:
    """Writes one line per step of progress, for logs."""

    STEPS = 20

    def __init__(self) -> None:
        self._shown = ""

    def __call__(self, phase: str, done: int, total: int) -> None:
        percent = done * self.STEPS // max(total, 1) * 100 // self.STEPS
        line = f"{phase} {percent} % of {size_text(total)}"
        if line != self._shown:
            self._shown = line
            typer.echo(line, err=True)


def circumstances(device: str, dtype: str) -> str:
    """Where the figures come from: 'cpu, float32, 2 threads'."""
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else device
    num = torch.get_num_threads()
    return f"{name}, {dtype}, {num} {'thread' if num == 1 else 'threads'}"


def speed_line(report: Report) -> str:
    """One line of figures about one answer."""
    result = report.results[0]
    first = "" if result.ttft_s is None else f", first token after {result.ttft_s:.2f} s"
    return (
        f"{result.mode}: {result.num_tokens} tokens in {result.num_forwards} forwards "
        f"({result.tokens_per_forward:.1f} per forward), "
        f"{result.tokens_per_s:.0f} tokens/s{first}; "
        f"{circumstances(report.device, report.dtype)}, one run, cold"
    )
