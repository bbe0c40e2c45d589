"""Who may take how much memory: the sum over a server and all it starts stays under one limit.

What is fixed (processes, weights, cache) is counted first, a reserve is left, and the rest is
shared out among what requests bring along. Figures of processes were measured on Linux, with the
embedded model, under load.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.defaults import DTYPE_BYTES, cache_bytes_per_token
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.model.quantization import weight_bytes

MIB = 2**20
SERVER, PAGE, ENGINE, SPARE, DECODER = 128 * MIB, 64 * MIB, 280 * MIB, 270 * MIB, 40 * MIB
# Of a checkpoint's own chat template, in the server and in the engine's process.
TEMPLATES = 2 * 40 * MIB
# What the engine computes with, encoded pictures and prompts kept, heap that is not given back.
ENGINE_WORK = 240 * MIB
RESERVE = 0.05
# Of the rest: pictures while they are decoded, pixels that wait for the engine, bodies.
SHARES = (0.8, 0.1, 0.1)
# Less serves nobody, more is of no use.
LEAST = (96 * MIB, 16 * MIB, 16 * MIB)
MOST = (1536 * MIB, 192 * MIB, 256 * MIB)
PIXEL_BYTES = 12  # three float32


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Bytes that may be taken by what requests bring along.

    decode: all pictures being decoded, in the children and here.
    pixels: as the model reads them, until the engine has them.
    bodies: of requests, held at once.
    """

    decode: int = MOST[0]
    pixels: int = MOST[1]
    bodies: int = MOST[2]

    @property
    def num_pixels(self) -> int:
        return self.pixels // PIXEL_BYTES


def fixed_bytes(
    config: ModelConfig | None,
    dtype: str,
    limits: EngineConfig | None = None,
    quantize: str | None = None,
    num_decoders: int = 2,
    has_spare: bool = True,
    has_page: bool = True,
    has_template: bool = False,
) -> int:
    """What a server takes whatever is asked of it. config: None where no weights lie in this
    memory. has_template: one of its own, which is rendered in a process."""
    num_bytes = SERVER + ENGINE + ENGINE_WORK + num_decoders * DECODER
    num_bytes += SPARE * has_spare + PAGE * has_page + TEMPLATES * has_template
    if config is not None:
        num_bytes += weight_bytes(config, DTYPE_BYTES[dtype], quantize)
        slots = (limits or EngineConfig()).max_cache_tokens
        num_bytes += slots * cache_bytes_per_token(config, dtype)
    return num_bytes


def share_out(limit: int | None, fixed: int) -> MemoryBudget:
    """limit: of all memory, None where it is not known."""
    if limit is None:
        return MemoryBudget()
    rest = max(0, int(limit * (1 - RESERVE)) - fixed)
    parts = (
        min(most, max(least, int(rest * share)))
        for share, least, most in zip(SHARES, LEAST, MOST, strict=True)
    )
    return MemoryBudget(*parts)
