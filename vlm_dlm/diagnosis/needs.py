"""What running a checkpoint takes on one device: weights, cache, and what forwards work with."""

from __future__ import annotations

from dataclasses import dataclass

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.decoding import MODES
from vlm_dlm.defaults import DTYPE_BYTES, cache_bytes_per_token
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.errors import CheckpointError
from vlm_dlm.model.quantization import SCHEMES, weight_bytes

USABLE_SHARE = 0.9  # of the memory that is free
MAX_IMAGE_SIDE = 1400  # larger pictures are made smaller, see docs/checkpoint.md
FLOAT_BYTES = 4
# Of a tensor of rows x width that live at once in a layer: residual, normed, queries, keys, values
# and their sum; then gate, up and their product.
NUM_WIDE, NUM_FEED_FORWARD = 6, 3
QUANTIZED_DTYPE = "bfloat16"  # of what is not quantized


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Memory of one device for one form of the weights.

    quantize: int8, int4 or None.
    cache_bytes: of an engine with default limits, for cache_tokens.
    work_bytes: about what the largest forward works with.
    free_bytes: None where unknown.
    room_tokens: how many of the cache's tokens there is room for.
    fits: whether there is room for all of them.
    """

    device: str
    dtype: str
    quantize: str | None
    weight_bytes: int
    cache_tokens: int
    cache_bytes_per_token: int
    cache_bytes: int
    work_bytes: int
    free_bytes: int | None
    room_tokens: int
    fits: bool

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.bytes_for(self.cache_tokens)

    def bytes_for(self, num_tokens: int) -> int:
        """All of it with a cache of so many tokens."""
        return self.weight_bytes + self.work_bytes + num_tokens * self.cache_bytes_per_token


def memory_needs(config: ModelConfig, device: str, free_bytes: int | None) -> list[MemoryNeed]:
    """Of every form that the weights can have, largest first."""
    needs = [_need(config, device, free_bytes, dtype, None) for dtype in DTYPE_BYTES]
    for scheme in SCHEMES:
        try:
            needs.append(_need(config, device, free_bytes, QUANTIZED_DTYPE, scheme))
        except CheckpointError:  # its matrices do not suit the scheme
            continue
    return needs


def _need(
    config: ModelConfig, device: str, free_bytes: int | None, dtype: str, scheme: str | None
) -> MemoryNeed:
    num_tokens = EngineConfig().max_cache_tokens
    per_token = cache_bytes_per_token(config, dtype)
    weights = weight_bytes(config, DTYPE_BYTES[dtype], scheme)
    cache, work = num_tokens * per_token, work_bytes(config, DTYPE_BYTES[dtype])
    room_tokens = num_tokens
    if free_bytes is not None:
        room = int(free_bytes * USABLE_SHARE) - weights - work
        room_tokens = max(0, min(num_tokens, room // per_token))
    return MemoryNeed(
        device=device,
        dtype=dtype,
        quantize=scheme,
        weight_bytes=weights,
        cache_tokens=num_tokens,
        cache_bytes_per_token=per_token,
        cache_bytes=cache,
        work_bytes=work,
        free_bytes=free_bytes,
        room_tokens=room_tokens,
        fits=room_tokens == num_tokens,
    )


def work_bytes(config: ModelConfig, item_bytes: int) -> int:
    """About the most that one forward works with: one large picture, or a full step of rows."""
    return max(_vision_bytes(config, item_bytes), _step_bytes(config, item_bytes))


def _vision_bytes(config: ModelConfig, item_bytes: int) -> int:
    """Attention here needs no scores of patches by patches."""
    vision = config.vision
    if vision is None:
        return 0
    num_patches = (min(vision.image_size, MAX_IMAGE_SIDE) // vision.patch_size) ** 2
    width = NUM_WIDE * vision.hidden_size + NUM_FEED_FORWARD * vision.intermediate_size
    return num_patches * width * item_bytes


def _step_bytes(config: ModelConfig, item_bytes: int) -> int:
    """All rows of a step go through the layers, those of one request's plan to the vocabulary."""
    width = NUM_WIDE * config.hidden_size + NUM_FEED_FORWARD * config.intermediate_size
    layers = EngineConfig().max_batched_tokens * width * item_bytes
    num_rows = max(mode().max_query_len(mode.Params()) for mode in MODES.values())
    return layers + num_rows * config.vocab_size * (item_bytes + FLOAT_BYTES)
