"""The model types that checkpoints may have, one row each: all that differs between them.

A further type is one row of MODEL_TYPES. The modules are `VlmModel` for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlm_dlm.checkpoint import schema
from vlm_dlm.checkpoint.config import TEXT_TYPE, VLM_TYPE, ModelConfig
from vlm_dlm.checkpoint.default_template import CHAT_TEMPLATE
from vlm_dlm.checkpoint.json_file import read_object
from vlm_dlm.checkpoint.tensors import PREFIXES, Shape, published_tensors
from vlm_dlm.errors import CheckpointError

# Text of the tokens that frame an image's features -> their id.
IMAGE_TOKENS = {
    "<|image_start|>": 18,
    "<|image_pad|>": 19,
    "<|image_break|>": 20,
    "<|image_end|>": 21,
}


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Texts of the tokens with a role. The ids of `mask` and `im_end` are in the config.

    end_of_text: ends an answer too, in a vocabulary that has it.
    begin, unknown: side files name them; no prompt of ours holds one.
    image: start, pad, row break and end, in this order, with their ids; {} for text models.
    """

    mask: str = "<SPECIAL_100>"
    im_start: str = "<|im_start|>"
    im_end: str = "<|im_end|>"
    think_start: str = "<think>"
    think_end: str = "</think>"
    end_of_text: str = "</s>"
    begin: str = "<s>"
    unknown: str = "<unk>"
    image: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelType:
    """What is known of a type before any file of a checkpoint is read but its config.

    architecture: the class that `config.json` names.
    parse: content of `config.json` -> config; raises CheckpointError.
    written: config -> content of `config.json` but `architectures`.
    tensors: config -> shape by published name, in forward order.
    prefixes: published prefix -> module prefix; the first that fits.
    special: texts of its special tokens.
    template: chat template of a checkpoint that ships none.
    """

    architecture: str
    parse: Callable[[dict[str, Any]], ModelConfig]
    written: Callable[[ModelConfig], dict[str, Any]] = schema.written
    tensors: Callable[[ModelConfig], dict[str, Shape]] = published_tensors
    prefixes: tuple[tuple[str, str], ...] = PREFIXES
    special: SpecialTokens = field(default_factory=SpecialTokens)
    template: str = CHAT_TEMPLATE


MODEL_TYPES = {
    VLM_TYPE: ModelType(
        "NemotronLabsDiffusionVLMModel",
        schema.parse_vlm,
        special=SpecialTokens(image=IMAGE_TOKENS),
    ),
    TEXT_TYPE: ModelType("NemotronLabsDiffusionModel", schema.parse_text),
}


def model_type_of(config: ModelConfig) -> ModelType:
    """The row of a config's type."""
    return MODEL_TYPES[config.model_type]


def parse_config(raw: dict[str, Any]) -> ModelConfig:
    """Content of `config.json`. Raises CheckpointError naming the field that is off."""
    name = raw.get("model_type")
    if not isinstance(name, str) or name not in MODEL_TYPES:
        supported = ", ".join(MODEL_TYPES)
        raise CheckpointError(f"config.json has model_type {name!r}; supported are {supported}")
    return MODEL_TYPES[name].parse(raw)


def read_config(folder: Path) -> ModelConfig:
    """`config.json` of a checkpoint folder. Raises CheckpointError."""
    return parse_config(read_object(folder / "config.json"))


def written_config(config: ModelConfig) -> dict[str, Any]:
    """Content of `config.json`."""
    row = model_type_of(config)
    return {"architectures": [row.architecture], **row.written(config)}


def module_name(config: ModelConfig, tensor: str) -> str:
    """What our modules call a tensor of the checkpoint, before any are packed together."""
    old, new = next(pair for pair in model_type_of(config).prefixes if tensor.startswith(pair[0]))
    return new + tensor.removeprefix(old)


def expected_tensors(config: ModelConfig) -> dict[str, Shape]:
    """Every tensor the checkpoint must hold, by its published name, in forward order."""
    return model_type_of(config).tensors(config)
