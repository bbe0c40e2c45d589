"""What is chosen when the caller does not choose: checkpoint, device, dtype, cache size.

Free of torch; what needs it takes plain numbers.
"""

from __future__ import annotations

import math
from pathlib import Path

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.checkpoint.family import FULL_MODEL
from vlm_dlm.checkpoint.model_types import expected_tensors
from vlm_dlm.errors import BadInputError, CheckpointError
from vlm_dlm.model.quantization import weight_bytes

EMBEDDED = "embedded"
EMBEDDED_NOTE = (
    "The embedded model knows drawn scenes and bar charts, not photographs; "
    f"use --model {FULL_MODEL} for those."
)
DEVICES = ("auto", "cpu", "cuda")
DTYPE_BYTES = {"float32": 4, "bfloat16": 2}
DTYPES = ("auto", *DTYPE_BYTES)
RAM_SHARE = 0.5  # of the memory that float32 weights may take before bfloat16 is chosen


def embedded_checkpoint() -> Path:
    """The checkpoint inside the installed package, else the one of the source tree."""
    package = Path(__file__).resolve().parent
    for folder in (package / "_embedded", package.parent / "assets" / "embedded"):
        if (folder / "config.json").is_file():
            return folder
    raise CheckpointError("this installation has no embedded checkpoint; choose one with --model")


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise BadInputError, naming the choices, unless `value` is one of them."""
    if value not in allowed:
        raise BadInputError(f"unknown {name} {value!r}; choose {', '.join(allowed)}")


def num_parameters(config: ModelConfig) -> int:
    """Parameters of a checkpoint with this config."""
    return sum(math.prod(shape) for shape in expected_tensors(config).values())


def cache_bytes_per_token(config: ModelConfig, dtype: str) -> int:
    """Bytes of keys and values of one token."""
    width = config.num_key_value_heads * config.head_dim
    return config.num_hidden_layers * 2 * width * DTYPE_BYTES[dtype]


def choose_dtype(
    config: ModelConfig, device: str, ram_bytes: int | None, quantize: str | None = None
) -> str:
    """bfloat16 on an accelerator; on a CPU float32 where the weights fit into half of the memory.

    float32 makes the lossless modes exactly equal; bfloat16 halves the memory. quantize: scheme of
    the weights, which leaves the dtype to the activations and to what is not quantized.
    """
    if device != "cpu":
        return "bfloat16"
    needed = weight_bytes(config, DTYPE_BYTES["float32"], quantize)
    return "float32" if ram_bytes is None or needed <= ram_bytes * RAM_SHARE else "bfloat16"
