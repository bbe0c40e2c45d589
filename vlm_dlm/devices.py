"""Which device there is to run on."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from vlm_dlm.defaults import DEVICES, check_choice
from vlm_dlm.errors import BadInputError

FOLDER = Path("/dev")
_GPUS = ("nvidia[0-9]*", "dxg")  # of Linux, and of Windows' Linux
_LIBRARY = "libtorch_cuda*"


def seems_to_have_cuda() -> bool:
    """As `torch.cuda.is_available` will most likely have it, in milliseconds: to import torch takes
    seconds."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and (not visible.strip() or visible.strip().startswith("-")):
        return False
    if not any(True for pattern in _GPUS for _ in FOLDER.glob(pattern)):
        return False
    torch = find_spec("torch")
    folders = [] if torch is None else torch.submodule_search_locations or []
    return any(True for folder in folders for _ in Path(folder, "lib").glob(_LIBRARY))


def choose_device(name: str) -> str:
    """'cpu' or 'cuda'. Raises BadInputError for another name or a device that is not there."""
    check_choice("device", name, DEVICES)
    import torch  # not before somebody asks

    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise BadInputError("no CUDA device is available; use --device cpu")
    return ("cuda" if has_cuda else "cpu") if name == "auto" else name
