"""Lets vLLM's Pixtral module be imported where torchvision cannot be.

By way of transformers it imports torchvision for image processing that this plugin replaces. Beside
a CPU build of torch, torchvision's usual builds do not load at all.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import ModuleType

from transformers.utils.import_utils import is_torchvision_available

_FUNCTIONAL = "torchvision.transforms.v2.functional"


@contextmanager
def torchvision_stand_in() -> Generator[None]:
    """While this lasts, and torchvision is not installed, its import gives an empty module."""
    if is_torchvision_available():  # remembered: later questions get the same answer
        yield
        return
    parts = _FUNCTIONAL.split(".")
    names = [".".join(parts[: count + 1]) for count in range(len(parts))]
    modules = {name: ModuleType(name) for name in names}
    for name in names[1:]:
        parent, _, child = name.rpartition(".")
        setattr(modules[parent], child, modules[name])
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
