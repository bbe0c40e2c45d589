"""Whether there is a GPU, found out in milliseconds: torch, which knows it, takes seconds."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

DEVICES = Path("/dev")
_GPUS = ("nvidia[0-9]*", "dxg")  # of Linux, and of Windows' Linux
_LIBRARY = "libtorch_cuda*"


def seems_to_have_cuda() -> bool:
    """As `torch.cuda.is_available` will most likely have it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and (not visible.strip() or visible.strip().startswith("-")):
        return False
    if not any(True for pattern in _GPUS for _ in DEVICES.glob(pattern)):
        return False
    torch = find_spec("torch")
    folders = [] if torch is None else torch.submodule_search_locations or []
    return any(True for folder in folders for _ in Path(folder, "lib").glob(_LIBRARY))
