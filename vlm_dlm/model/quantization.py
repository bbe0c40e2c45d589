"""Weight-only quantization: which matrices, in how many bits, and what that takes in memory.

Arithmetic on shapes alone, free of torch and of torchao; `quantized_linear.py` owns the tensors.

What is quantized: the matrices of the decoder's layers, 83 % of the 8B model and all that is read
for every token but the head. What is kept, and why:

- `diffusion_head` decides every argmax and every confidence, and each mode compares both with
  thresholds or with another forward; an error there is not averaged out by later layers.
- `embed_tokens` is a lookup, not a product: quantized products do not help it.
- The vision tower and the projector run once per image, are 5 % of the weights, and the tower's
  activations reach the thousands, where it is off by a fifth in BF16 already.
- Norms are vectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.checkpoint.model_types import expected_tensors, module_name
from vlm_dlm.checkpoint.tensors import Shape
from vlm_dlm.errors import BadInputError, CheckpointError

LAYERS = "decoder.layers."  # as our modules name them
GROUP_SIZES = (64, 32)  # of int4, the first that divides the rows; what the kernels can do
FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a matrix [out, in] is stored.

    bits: of one weight.
    is_grouped: scale and shift per `group_size` inputs of a row, in the dtype of the activations;
        otherwise one float32 scale per row and no shift.
    """

    name: str
    bits: int
    is_grouped: bool

    def num_groups(self, num_in: int) -> int:
        """Groups of a row. Raises CheckpointError where no group size divides it."""
        if not self.is_grouped:
            return 1
        for size in GROUP_SIZES:
            if num_in % size == 0:
                return num_in // size
        raise CheckpointError(
            f"{self.name} needs matrices whose rows are a multiple of {GROUP_SIZES[-1]} long; "
            f"this checkpoint has rows of {num_in}; choose int8"
        )

    def matrix_bytes(self, shape: Shape, item_bytes: int) -> int:
        """Codes and scales of one matrix. item_bytes: of the activations' dtype."""
        num_out, num_in = shape
        groups = self.num_groups(num_in)
        scales = 2 * groups * item_bytes if self.is_grouped else FLOAT_BYTES
        return num_out * (num_in * self.bits // 8 + scales)


SCHEMES = {scheme.name: scheme for scheme in (Scheme("int8", 8, False), Scheme("int4", 4, True))}


def find_scheme(name: str | None) -> Scheme | None:
    """The scheme of this name; None stays None. Raises BadInputError."""
    if name is None:
        return None
    if name not in SCHEMES:
        raise BadInputError(f"unknown quantization {name!r}; choose {' or '.join(SCHEMES)}")
    return SCHEMES[name]


def check_quantize(name: str | None) -> None:
    """Raise BadInputError for an unknown scheme, or where torchao is missing."""
    if find_scheme(name) is not None and find_spec("torchao") is None:
        raise BadInputError(
            "quantizing needs torchao; install it with: pip install 'vlm-dlm[quantize]'"
        )


def is_quantized(parameter: str, shape: Shape) -> bool:
    """Whether a scheme applies to this parameter of `VlmModel`."""
    return parameter.startswith(LAYERS) and len(shape) == 2


def weight_bytes(config: ModelConfig, item_bytes: int, quantize: str | None = None) -> int:
    """Memory of all weights once loaded, in bytes.

    item_bytes: 4 for float32, 2 for bfloat16. Raises BadInputError for an unknown scheme,
    CheckpointError for one that does not suit the checkpoint's shapes.
    """
    scheme = find_scheme(quantize)
    total = 0
    for name, shape in expected_tensors(config).items():
        if scheme is not None and is_quantized(module_name(config, name), shape):
            total += scheme.matrix_bytes(shape, item_bytes)
        else:
            total += math.prod(shape) * item_bytes
    return total
