"""What this machine has: devices and the memory that is free on each."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import torch

from vlm_dlm.memory import memory_limit
from vlm_dlm.model.placement import free_bytes


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A place to run. Bytes are None where they cannot be told.

    memory_bytes: of a CPU what this process may use, its container's limit included. free_bytes:
    of that, what nobody uses now.
    """

    name: str
    title: str
    memory_bytes: int | None
    free_bytes: int | None


def find_devices() -> tuple[DeviceFacts, ...]:
    """The CPU first, then every GPU."""
    title = platform.processor() or platform.machine()
    cpu = DeviceFacts("cpu", title, memory_limit(), free_bytes(torch.device("cpu")))
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return (cpu, *(_gpu(index) for index in range(count)))


def _gpu(index: int) -> DeviceFacts:
    facts = torch.cuda.get_device_properties(index)
    free = free_bytes(torch.device("cuda", index))
    return DeviceFacts(f"cuda:{index}", facts.name, facts.total_memory, free)
