"""`vlm-dlm generate`: one answer, streamed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from vlm_dlm.cli import options as opt
from vlm_dlm.cli.asking import Place, Question, check, load
from vlm_dlm.cli.mode_options import MODE_NAMES, NONE_GIVEN
from vlm_dlm.cli.output import speed_line, write_json, write_note, write_text
from vlm_dlm.cli.sampling_options import GREEDY
from vlm_dlm.defaults import EMBEDDED, EMBEDDED_NOTE
from vlm_dlm.events import Committed, Finished, GenerationEvent
from vlm_dlm.preflight import parse_modes
from vlm_dlm.request import DEFAULT_MODE, SamplingParams


def generate(
    image: opt.ImagePaths = None,
    prompt: opt.PromptText = "Describe the image.",
    mode: Annotated[str, typer.Option(metavar="MODE", help=f"{MODE_NAMES}.")] = DEFAULT_MODE,
    sampling: SamplingParams = GREEDY,
    options: Mapping[str, Any] = NONE_GIVEN,
    system: opt.SystemText = None,
    exif: opt.Exif = True,
    model: opt.Model = None,
    adapter: opt.Adapter = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    quantize: opt.Quantize = None,
    json: opt.AsJson = False,
) -> None:
    """Answer one prompt in one mode. Its figures are those of a single run without warm-up."""
    (name,) = parse_modes([mode])
    question = Question(image or [], prompt, system, exif)
    place = Place(model, device, dtype, adapter, quantize)
    checked = check([name], options, sampling, question, place)
    if not json and checked.checkpoint.name == EMBEDDED:
        write_note(EMBEDDED_NOTE)
    runtime = load(checked)
    report = runtime.generate(
        checked.prompt, name, options, checked.sampling, on_event=None if json else _stream
    )
    if json:
        write_json(report.to_dict())
    else:
        write_note(speed_line(report))


def _stream(event: GenerationEvent) -> None:
    """Text as it becomes final."""
    if isinstance(event, Committed):
        write_text(event.text)
    elif isinstance(event, Finished):
        write_text(event.text + "\n")
