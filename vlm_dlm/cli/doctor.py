"""`vlm-dlm doctor`: what a checkpoint needs, what this machine has. Loads no weights."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from vlm_dlm.cli import options as opt
from vlm_dlm.cli.output import write_json
from vlm_dlm.defaults import EMBEDDED
from vlm_dlm.diagnosis.subject import ABSENT, HERE, find_subject
from vlm_dlm.diagnosis.verdict import MIN_CACHE_TOKENS
from vlm_dlm.errors import CheckpointError
from vlm_dlm.sizes import size_text

if TYPE_CHECKING:
    from vlm_dlm.diagnosis.machine import DeviceFacts
    from vlm_dlm.diagnosis.needs import MemoryNeed
    from vlm_dlm.diagnosis.report import Diagnosis
    from vlm_dlm.diagnosis.subject import CheckpointFacts


def doctor(model: opt.Model = None, json: opt.AsJson = False) -> None:
    """Say whether a checkpoint fits this machine, and with which flags. Loads nothing."""
    subject = find_subject(model)
    from vlm_dlm.diagnosis.report import diagnose

    diagnosis = diagnose(subject)
    if json:
        write_json(asdict(diagnosis))
    else:
        _show(diagnosis)
    if not diagnosis.verdict.fits:
        raise CheckpointError(f"{subject.facts.name}: {diagnosis.verdict.text}")


def _show(diagnosis: Diagnosis) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for title, text in _lines(diagnosis):
        console.print(f"[bold]{title:<12}[/]", end="")
        console.print(text, markup=False)


def _lines(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    yield "Versions", ", ".join(f"{name} {ver}" for name, ver in diagnosis.versions.items())
    for device in diagnosis.devices:
        yield "Device", _device_text(device)
    yield "Threads", str(diagnosis.num_threads)
    yield from _checkpoint_lines(diagnosis.checkpoint)
    for need in diagnosis.needs:
        yield "Memory", _need_text(need)
    yield "Without flags", f"{diagnosis.dtype} on {diagnosis.device}"
    yield "Verdict", diagnosis.verdict.text
    if diagnosis.verdict.fits:
        yield "Use", _command(diagnosis)


def _command(diagnosis: Diagnosis) -> str:
    verdict, name = diagnosis.verdict, diagnosis.checkpoint.name
    model = () if name == EMBEDDED else ("--model", shlex.quote(name))
    variables = (f"{name}={value}" for name, value in verdict.variables.items())
    return " ".join((*variables, "vlm-dlm serve", *model, *verdict.flags))


def _device_text(device: DeviceFacts) -> str:
    total, free = device.memory_bytes, device.free_bytes
    memory = "unknown memory" if total is None else size_text(total)
    return f"{device.name}: {device.title}, {memory}" + (
        "" if free is None else f", {size_text(free)} free"
    )


def _checkpoint_lines(facts: CheckpointFacts) -> Iterator[tuple[str, str]]:
    where = "on disk" if facts.state == HERE else "as published"
    yield (
        "Checkpoint",
        f"{facts.name}: {facts.num_tensors} tensors, {facts.num_parameters:,} parameters, "
        f"{size_text(facts.file_bytes)} {where}, context {facts.max_context}",
    )
    if facts.state == HERE:
        yield "Files", "complete, and here"
    else:
        disk = facts.disk_free_bytes or 0
        room = "" if facts.missing_bytes <= disk else ", which is too little"
        left = size_text(facts.missing_bytes)
        kept = "" if facts.state == ABSENT else "partly here, "
        yield (
            "Files",
            f"{kept}{left} to download with `vlm-dlm fetch {facts.name}`; the disk has "
            f"{size_text(disk)} free{room}",
        )
    if facts.licence is not None:
        yield "Licence", facts.licence
    if facts.note:
        yield "Note", facts.note


def _need_text(need: MemoryNeed) -> str:
    form = need.dtype if need.quantize is None else need.quantize
    free = "" if need.free_bytes is None else f" of {size_text(need.free_bytes)} free"
    return (
        f"{form} on {need.device}: weights {size_text(need.weight_bytes)}, cache "
        f"{size_text(need.cache_bytes)} for {need.cache_tokens} tokens "
        f"({size_text(need.cache_bytes_per_token)} each), work about "
        f"{size_text(need.work_bytes)}: {size_text(need.total_bytes)}{free}, "
        f"{'fits' if need.fits else _room_text(need)}"
    )


def _room_text(need: MemoryNeed) -> str:
    if need.room_tokens < MIN_CACHE_TOKENS:
        return "does not fit"
    return f"fits with a cache of {need.room_tokens} tokens"
