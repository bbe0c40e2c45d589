"""The flat `config.json` of this family as the nested config that vLLM's Mistral models read.

The arithmetic's fields come from `ModelConfig`, so a config that our own loader refuses is refused
here with the same sentence.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from transformers import Ministral3Config, Mistral3Config
from transformers.configuration_utils import PreTrainedConfig

from vlm_dlm.checkpoint.config import TEXT_TYPE, VLM_TYPE, ModelConfig
from vlm_dlm.checkpoint.model_types import parse_config
from vlm_dlm.errors import CheckpointError
from vlm_dlm.processor.tokenizer import IMAGE_IDS

# Fields of a text model that are named alike in `ModelConfig` and in transformers.
_TEXT_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "max_position_embeddings",
    "eos_token_id",
)


class TextConfig(Ministral3Config):
    """A text-only family member, or the text half of a VLM.

    llama_4_scaling: what vLLM's Mistral attention reads to scale queries by their position. Its
    other spelling, `rope_parameters.llama_4_scaling_beta`, it ignores in silence.
    """

    model_type = TEXT_TYPE

    def __post_init__(self, **kwargs: Any) -> None:
        rope: dict[str, Any] = dict(self.rope_parameters or {})
        if rope and "llama_4_scaling" not in kwargs:
            kwargs["llama_4_scaling"] = {
                "original_max_position_embeddings": rope["original_max_position_embeddings"],
                "beta": rope.get("llama_4_scaling_beta", 0.0),
            }
        if rope:  # vLLM's rotary table ends there, and it reads past the end in silence
            longest = int(rope["original_max_position_embeddings"] * rope.get("factor", 1))
            self.max_position_embeddings = min(self.max_position_embeddings, longest)
        super().__post_init__(**kwargs)


class VlmConfig(Mistral3Config):
    """A VLM of the family. Takes the flat fields of `config.json`, or its own nested form."""

    model_type = VLM_TYPE
    image_token_index: int = IMAGE_IDS.pad
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        """Raises ValueError for a config that cannot be served."""
        if self.text_config is None:
            config = self._read(kwargs)
            self.text_config = TextConfig(**_text_fields(config))
            self.vision_config = _vision_fields(config)
            kwargs = {name: kwargs[name] for name in kwargs if name not in _flat_names()}
        super().__post_init__(**kwargs)

    def _read(self, flat: dict[str, Any]) -> ModelConfig:
        if not flat.keys() & set(_TEXT_FIELDS):
            return ModelConfig()  # transformers builds one of defaults to see what differs
        own = ("vision_config", "spatial_merge_size", "projector_hidden_act")
        raw = {**flat, **{name: getattr(self, name) for name in own}, "model_type": VLM_TYPE}
        try:
            return parse_config(raw)
        except CheckpointError as error:
            raise ValueError(str(error)) from None


CONFIGS: tuple[type[PreTrainedConfig], ...] = (TextConfig, VlmConfig)


def _flat_names() -> frozenset[str]:
    """What goes into the text config and not into the whole one."""
    return frozenset({*_TEXT_FIELDS, "rope_parameters", "rope_scaling", "rope_theta", "hidden_act"})


def _text_fields(config: ModelConfig) -> dict[str, Any]:
    return {
        **{name: getattr(config, name) for name in _TEXT_FIELDS},
        "architectures": ["Ministral3ForCausalLM"],
        "rope_parameters": {"rope_type": "yarn", **asdict(config.rope)},
        "tie_word_embeddings": False,
        "pad_token_id": None,
    }


def _vision_fields(config: ModelConfig) -> dict[str, Any]:
    """Without `rope_type`: the older name of ours means what transformers' default means."""
    assert config.vision is not None, "a VLM has a vision tower"
    fields = asdict(config.vision)
    theta = fields.pop("rope_theta")
    return {"model_type": "pixtral", **fields, "rope_parameters": {"rope_theta": theta}}
