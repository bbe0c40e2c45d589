"""`vlm-dlm eval`: how good and how fast every mode is on scenes it has never seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlm_dlm.cli import options as opt
from vlm_dlm.cli.asking import Place, options_line
from vlm_dlm.cli.mode_options import NONE_GIVEN
from vlm_dlm.cli.output import circumstances, load_progress, stderr_console, write_json, write_note
from vlm_dlm.preflight import check_number, mode_params, open_checkpoint, parse_modes

if TYPE_CHECKING:
    from vlm_dlm.evaluation.scores import EvaluationReport

MAX_SCENES = 100_000
MAX_BATCH = 64


def evaluate(
    num: Annotated[int, typer.Option(metavar="N", help="Held-out scenes.")] = 100,
    modes: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Modes to run.", show_default="all")
    ] = None,
    batch: Annotated[
        int,
        typer.Option(
            metavar="N", help="Requests in flight; above 1 there are no tokens/s figures."
        ),
    ] = 1,
    seed: Annotated[int, typer.Option(metavar="S", help="Of the scenes.")] = 0,
    options: Mapping[str, Any] = NONE_GIVEN,
    model: opt.Model = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    quantize: opt.Quantize = None,
    json: opt.AsJson = False,
) -> None:
    """Score captions and answers on scenes that training never draws.

    An option goes to every mode that has it.
    """
    names = parse_modes(modes)
    params = mode_params(names, options, is_shared=True)
    check_number("num", num, 1, MAX_SCENES)
    check_number("batch", batch, 1, MAX_BATCH)
    check_number("seed", seed, 0, 2**63 - 1)
    Place(model, device, dtype, quantize=quantize).check()
    checkpoint = open_checkpoint(model)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from vlm_dlm.evaluation.scenes import evaluate as run_evaluation
    from vlm_dlm.runtime import Runtime

    with load_progress() as progress:
        runtime = Runtime.load(checkpoint, device, dtype, progress=progress, quantize=quantize)
    console = stderr_console()
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    is_hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=is_hidden) as bar:
        task = bar.add_task("", total=num)
        report = run_evaluation(
            runtime, num, names, seed, batch, lambda: bar.advance(task), options
        )
    if json:
        write_json(report.to_dict())
        return
    if options:
        write_note(options_line(options, params))
    _show(report)


def _show(report: EvaluationReport) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("mode", no_wrap=True)
    quality = ("captions\nexact", "object\nF1", "answers\nright")
    speed = ("caption\ntok/fwd", "answer\ntok/fwd", "caption\ntok/s")
    for name in (*quality, *speed, "same\nas ar"):
        table.add_column(name, justify="right", no_wrap=True)
    for scores in report.results:
        rate, same = scores.caption_tokens_per_s, scores.agreement_with_ar
        table.add_row(
            scores.mode,
            f"{100 * scores.caption_exact_match:.1f} %",
            f"{scores.object_f1:.3f}",
            f"{100 * scores.answer_accuracy:.1f} %",
            f"{scores.caption_tokens_per_forward:.1f}",
            f"{scores.answer_tokens_per_forward:.1f}",
            "-" if rate is None else f"{rate:.0f}",
            "-" if same is None else f"{100 * same:.1f} %",
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "tok/fwd: tokens per decode forward, tok/s: tokens per second of decoding. "
        f"{report.num_captions} captions and {report.num_answers} answers, batch {report.batch}; "
        f"{report.model} on {circumstances(report.device, report.dtype)}.",
        style="dim",
    )
