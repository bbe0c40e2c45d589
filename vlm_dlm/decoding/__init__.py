"""The decoding modes. A fifth mode is one new file and one line in MODES."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vlm_dlm.decoding.autoregressive import Autoregressive
from vlm_dlm.decoding.base import DecodingMode, ModeRequest, build_params
from vlm_dlm.decoding.block_diffusion import BlockDiffusion
from vlm_dlm.decoding.linear_speculation import LinearSpeculation
from vlm_dlm.decoding.quadratic_speculation import QuadraticSpeculation
from vlm_dlm.errors import ModeError

MODES: dict[str, type[DecodingMode[Any, Any, Any]]] = {
    mode.name: mode
    for mode in (Autoregressive, BlockDiffusion, LinearSpeculation, QuadraticSpeculation)
}


def find_mode(name: str, offered: Iterable[str] = MODES) -> type[DecodingMode[Any, Any, Any]]:
    """The mode of this name or alias, offered or not. Raises ModeError listing those offered."""
    for mode in MODES.values():
        if name == mode.name or name in mode.aliases:
            return mode
    raise ModeError(f"unknown mode {name!r}; the modes are {', '.join(offered)}")


__all__ = ["MODES", "DecodingMode", "ModeRequest", "build_params", "find_mode"]
