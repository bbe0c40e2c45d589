"""Which form of the weights on which device, and the flags that choose it. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from vlm_dlm.diagnosis.needs import USABLE_SHARE, MemoryNeed
from vlm_dlm.sizes import size_text

MIN_CACHE_TOKENS = 8192  # a cache that holds less is not worth more bits
ROUND_TOKENS = 1024
SPILLED = "bfloat16"  # the form that goes to disk where none fits


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to choose.

    fits: whether it runs here at all, and can be downloaded.
    flags: of any command that loads the checkpoint.
    variables: for `serve`, whose cache is else larger than there is room for.
    text: why, in one sentence.
    """

    fits: bool
    flags: tuple[str, ...]
    variables: dict[str, str]
    text: str


def judge(needs: Sequence[MemoryNeed], cpu_dtype: str, disk_free_bytes: int) -> Verdict:
    """The first that fits: a GPU before the CPU, more bits before fewer, memory before disk.

    cpu_dtype: what 'auto' takes on the CPU. disk_free_bytes: where layers would be offloaded to.
    """
    gpus = [need for need in needs if need.device != "cpu" and need.dtype != "float32"]
    cpu = [need for need in needs if need.device == "cpu"]
    cpu = [need for need in cpu if need.dtype != "float32" or cpu_dtype == "float32"]
    for need in (*gpus, *cpu):
        if need.room_tokens >= MIN_CACHE_TOKENS:
            return _whole(need)
    return _spilled(needs, disk_free_bytes)


def count_download(verdict: Verdict, missing_bytes: int, disk_free_bytes: int | None) -> Verdict:
    """The verdict once the disk is counted that the files go to; None where none are missing."""
    if not verdict.fits or disk_free_bytes is None or missing_bytes <= disk_free_bytes:
        return verdict
    text = (
        f"it would run, but {size_text(missing_bytes)} are to be downloaded and the disk of the "
        f"Hub's cache has {size_text(disk_free_bytes)} free; make room, or choose another disk "
        "with `vlm-dlm fetch --to` or HF_HOME"
    )
    return Verdict(False, (), {}, text)


def _whole(need: MemoryNeed) -> Verdict:
    """All weights on one device."""
    device, _, index = need.device.partition(":")
    flags = ("--device", device, "--dtype", need.dtype)
    if need.quantize is not None:
        flags = (*flags, "--quantize", need.quantize)
    num_tokens = need.room_tokens // ROUND_TOKENS * ROUND_TOKENS
    variables = {} if need.fits else {"VLM_DLM_MAX_CACHE_TOKENS": str(num_tokens)}
    if index not in ("", "0"):
        variables["CUDA_VISIBLE_DEVICES"] = index
    taken = need.total_bytes if need.fits else need.bytes_for(num_tokens)
    text = f"{size_text(taken)} of {size_text(need.free_bytes or 0)} free on {need.device}"
    if need.free_bytes is None:
        text = f"{size_text(taken)}; how much is free on {need.device} cannot be told"
    if need.quantize is not None and find_spec("torchao") is None:
        text += "; pip install 'vlm-dlm[quantize]' first"
    return Verdict(True, flags, variables, text)


def _spilled(needs: Sequence[MemoryNeed], disk_free_bytes: int) -> Verdict:
    """Nothing fits as a whole: layers wait on the CPU or on disk until their turn."""
    forms = [need for need in needs if need.dtype == SPILLED and need.quantize is None]
    main = next((need for need in forms if need.device != "cpu"), forms[0])
    used = {need.device: need.free_bytes or 0 for need in forms if need in (main, forms[0])}
    room = sum(used.values()) * USABLE_SHARE - main.cache_bytes - main.work_bytes
    over = main.weight_bytes - max(0.0, room)
    least = min(needs, key=lambda need: need.total_bytes)
    smallest = (
        f"the smallest form, {least.quantize or least.dtype}, needs {size_text(least.total_bytes)}"
    )
    if over > disk_free_bytes * USABLE_SHARE or find_spec("accelerate") is None:
        text = f"it does not fit, {smallest}; free memory, or take a larger machine"
        return Verdict(False, (), {}, text)
    flags = ("--device", main.device.partition(":")[0], "--dtype", SPILLED)
    where = f"{size_text(over)} of layers wait on disk"
    if over <= 0:
        where = "layers wait in the CPU's memory"
    return Verdict(True, flags, {}, f"slow, as {where}; {smallest}")
