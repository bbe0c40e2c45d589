"""`vlm-dlm compare`: the same prompt in several modes, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from vlm_dlm.cli import options as opt
from vlm_dlm.cli.asking import Place, Question, check, load, options_line
from vlm_dlm.cli.mode_options import NONE_GIVEN
from vlm_dlm.cli.output import write_json, write_note
from vlm_dlm.cli.sampling_options import GREEDY
from vlm_dlm.defaults import EMBEDDED, EMBEDDED_NOTE
from vlm_dlm.preflight import parse_modes
from vlm_dlm.request import SamplingParams


def compare(
    image: opt.ImagePaths = None,
    prompt: opt.PromptText = "Describe the image.",
    modes: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Modes to run.", show_default="all")
    ] = None,
    sampling: SamplingParams = GREEDY,
    options: Mapping[str, Any] = NONE_GIVEN,
    system: opt.SystemText = None,
    exif: opt.Exif = True,
    warm_up: Annotated[
        bool, typer.Option("--warm-up/--no-warm-up", help="Run every mode briefly before timing.")
    ] = True,
    model: opt.Model = None,
    adapter: opt.Adapter = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    quantize: opt.Quantize = None,
    json: opt.AsJson = False,
) -> None:
    """Answer one prompt in several modes, one after another, and compare their speed.

    The image is encoded and the prompt computed once. Every mode first runs for a few tokens that
    are not counted, so that the figures are warm. An option goes to every mode that has it.
    """
    names = parse_modes(modes)
    question = Question(image or [], prompt, system, exif)
    place = Place(model, device, dtype, adapter, quantize)
    checked = check(names, options, sampling, question, place)
    if not json and checked.checkpoint.name == EMBEDDED:
        write_note(EMBEDDED_NOTE)
    if not json and options:
        write_note(options_line(options, checked.params))
    runtime = load(checked)
    if json:
        report = runtime.compare(checked.prompt, names, options, checked.sampling, is_warm=warm_up)
        write_json(report.to_dict())
        return
    from vlm_dlm.cli.comparison_view import ComparisonView

    with ComparisonView(names) as view:
        report = runtime.compare(
            checked.prompt, names, options, checked.sampling, view.on_event, is_warm=warm_up
        )
    view.show(report, is_warm=warm_up)
