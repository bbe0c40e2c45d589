"""`vlm-dlm train`: train a checkpoint like the embedded one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from vlm_dlm.cli import options as opt
from vlm_dlm.cli.output import stderr_console, write_note
from vlm_dlm.defaults import DEVICES, check_choice
from vlm_dlm.errors import BadInputError
from vlm_dlm.preflight import check_number
from vlm_dlm.training.folder import open_folder
from vlm_dlm.training.recipe import Recipe

MAX_MINUTES = 7 * 24 * 60.0
SHOWN = ("loss", "next_accuracy", "masked_accuracy", "labels", "samples_per_second")


def train(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the finished checkpoint.")],
    minutes: Annotated[
        float, typer.Option(metavar="M", help="Time budget of the whole run.")
    ] = 425.0,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="S", help="Of weights and data.", show_default="0, or that of the run to resume"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in DIR.")] = False,
    start: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Begin with this finished checkpoint's weights."),
    ] = None,
    vision_share: Annotated[
        float | None,
        typer.Option(
            "--vision-share",
            metavar="X",
            help="Part of the time for the vision stage.",
            show_default="0.28",
        ),
    ] = None,
    device: opt.Device = "auto",
) -> None:
    """Train a checkpoint like the embedded one.

    It takes as long as --minutes says. State for --resume and a log stay in DIR/state. This is one
    run of the kind that made the embedded checkpoint, whose weights came from several.
    """
    check_number("minutes", minutes, 1e-3, MAX_MINUTES)
    if seed is not None:
        check_number("seed", seed, 0, 2**63 - 1)
    recipe = Recipe()
    if vision_share is not None:
        check_number("vision-share", vision_share, 0, 1)
        recipe = replace(recipe, vision_share=vision_share)
    check_choice("device", device, DEVICES)
    if out.exists() and not out.is_dir():
        raise BadInputError(f"{out} is a file; --out takes a folder")
    open_folder(out, resume, start)
    from vlm_dlm.devices import choose_device
    from vlm_dlm.training.trainer import train as run_training

    with _progress(minutes) as on_record:
        run_training(recipe, out, minutes, seed, resume, choose_device(device), on_record, start)
    write_note(f"The checkpoint is in {out}; try it with: vlm-dlm generate --model {out}")


@contextmanager
def _progress(minutes: float) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar over the time budget in a terminal, else one line per log record."""
    console = stderr_console()
    if not console.is_terminal:
        yield lambda record: write_note(_record_line(record))
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("preparing", total=60 * minutes)
        seconds: dict[str, float] = {}

        def on_record(record: dict[str, Any]) -> None:
            seconds[str(record["stage"])] = float(record["seconds"])
            bar.update(task, completed=sum(seconds.values()), description=_record_line(record))

        yield on_record


def _record_line(record: dict[str, Any]) -> str:
    figures = [f"{name} {record[name]:.4g}" for name in SHOWN if name in record]
    return " ".join([f"{record['stage']} step {record['step']}", *figures])
