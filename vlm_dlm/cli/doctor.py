"""`vlm-dlm doctor`: what this machine has and what a checkpoint needs. Loads no weights."""

from __future__ import annotations

from dataclasses import asdict

from vlm_dlm.cli import options as opt
from vlm_dlm.cli.output import write_json
from vlm_dlm.preflight import open_checkpoint


def doctor(model: opt.Model = None, json: opt.AsJson = False) -> None:
    """Show versions, devices and memory, and whether a checkpoint fits."""
    checkpoint = open_checkpoint(model)
    from vlm_dlm.diagnosis import diagnose

    diagnosis = diagnose(checkpoint)
    if json:
        write_json(asdict(diagnosis))
        return
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    versions = ", ".join(f"{name} {version}" for name, version in diagnosis.versions.items())
    console.print(f"[bold]Versions[/]    {versions}")
    for device in diagnosis.devices:
        memory = "unknown memory" if device.memory_bytes is None else _size(device.memory_bytes)
        console.print(f"[bold]Device[/]      {device.name}: {device.title}, {memory}")
    facts = diagnosis.checkpoint
    console.print(f"[bold]Threads[/]     {diagnosis.num_threads}")
    console.print(
        f"[bold]Checkpoint[/]  {facts.name}: {facts.num_tensors} tensors, "
        f"{facts.num_parameters:,} parameters, {_size(facts.file_bytes)} on disk, "
        f"context {facts.max_context}"
    )
    for need in diagnosis.needs:
        console.print(
            f"[bold]Memory[/]      {need.dtype} on {need.device}: weights "
            f"{_size(need.weight_bytes)} and cache {_size(need.cache_bytes)} for "
            f"{need.cache_tokens} tokens; {'fits' if need.fits else 'does not fit'}"
        )
    console.print(f"[bold]Chosen[/]      {diagnosis.dtype} on {diagnosis.device}")


def _size(num_bytes: int) -> str:
    """'17.8 GB' or '13.5 MB', in powers of ten like file managers."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.1f} {unit}"
    return f"{num_bytes / 1000:.1f} kB"
