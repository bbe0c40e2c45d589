"""`vlm-dlm verify`: does a checkpoint do what this project takes for granted?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from vlm_dlm.checkpoint.resolve import resolve_checkpoint
from vlm_dlm.cli import options as opt
from vlm_dlm.cli.asking import Place
from vlm_dlm.cli.output import load_progress, write_json, write_note
from vlm_dlm.errors import CheckpointError
from vlm_dlm.preflight import check_number, open_checkpoint

if TYPE_CHECKING:
    from vlm_dlm.engine.config import EngineConfig
    from vlm_dlm.runtime import Runtime
    from vlm_dlm.verify.files import CheckpointFiles
    from vlm_dlm.verify.finding import Finding

Say = Callable[[str], None]
MAX_PROMPTS, MAX_ANSWER = 100, 4096
COLOURS = {"confirmed": "green", "differs": "red", "could not tell": "yellow", "skipped": "dim"}


def verify(
    model: opt.Model = None,
    adapter: opt.Adapter = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    quantize: opt.Quantize = None,
    prompts: Annotated[int, typer.Option(metavar="N", help="Prompts to answer.")] = 4,
    max_tokens: opt.MaxTokens = 96,
    files_only: Annotated[
        bool, typer.Option("--files-only", help="Look at the files and load no weights.")
    ] = False,
    long: Annotated[
        bool,
        typer.Option("--long", help="Also answer a prompt past the first period of positions."),
    ] = False,
    json: opt.AsJson = False,
) -> None:
    """Check what is uncertain about a checkpoint, and say which setting to change.

    Exit code 0: all as assumed. 1: something differs. 2: bad input, or weights that cannot be used.
    """
    check_number("prompts", prompts, 1, MAX_PROMPTS)
    check_number("max-tokens", max_tokens, 8, MAX_ANSWER)
    place = Place(model, device, dtype, adapter, quantize)
    place.check()
    from vlm_dlm.defaults import embedded_checkpoint
    from vlm_dlm.verify.checks import FILE_CHECKS
    from vlm_dlm.verify.files import CheckpointFiles
    from vlm_dlm.verify.running import has_difference, run_checks

    folder = embedded_checkpoint() if model is None else resolve_checkpoint(model)
    files = CheckpointFiles.open(folder, adapter)
    show = (lambda finding: None) if json else _show
    say = (lambda text: None) if json else (lambda text: write_note(f"{text} ..."))
    asked = run_checks(FILE_CHECKS, files)
    if not files_only:
        asked = chain(asked, _with_weights(files, place, prompts, max_tokens, long, say))
    findings: list[Finding] = []
    refusal: CheckpointError | None = None
    try:
        for finding in asked:
            show(finding)
            findings.append(finding)
    except CheckpointError as error:
        refusal = error
    if json:
        write_json({"model": model or "embedded", "findings": [asdict(f) for f in findings]})
    if has_difference(findings):
        raise typer.Exit(1)
    if refusal is not None:
        raise refusal


def _with_weights(
    files: CheckpointFiles, place: Place, num: int, max_tokens: int, is_long: bool, say: Say
) -> Iterator[Finding]:
    """Findings of the checks that need weights. Where those cannot be used all are skipped, and
    then CheckpointError is raised."""
    say("loading")
    from vlm_dlm.verify.model_table import MODEL_CHECKS
    from vlm_dlm.verify.running import run_checks, skip_checks
    from vlm_dlm.verify.trial import Trial, trial_limits

    try:
        runtime = _loaded(place, trial_limits(files.config, max_tokens, is_long))
    except CheckpointError as error:
        yield from skip_checks(MODEL_CHECKS, f"the weights cannot be used: {error}")
        raise
    yield from run_checks(MODEL_CHECKS, Trial(runtime, num, max_tokens, say, is_long), say)


def _loaded(place: Place, limits: EngineConfig) -> Runtime:
    """Raises CheckpointError where the strict loader refuses."""
    checkpoint = open_checkpoint(place.model)
    from vlm_dlm.runtime import Runtime

    with load_progress() as progress:
        return Runtime.load(
            checkpoint, place.device, place.dtype, place.adapter, progress, limits, place.quantize
        )


def _show(finding: Finding) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    verdict = Text(f"{finding.verdict:<15}", style=COLOURS[finding.verdict])
    console.print(verdict + Text(f"{finding.check}: {finding.assumed}", style="default"))
    console.print(Text(f"{'':<15}{finding.evidence}", style="dim"))
    if finding.verdict in ("differs", "could not tell"):
        console.print(Text(f"{'':<15}to change: {finding.setting}"))
