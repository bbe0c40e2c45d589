"""Checkpoint configuration: the published `config.json` schema as frozen dataclasses.

Owns parsing and writing of the schema, nothing else. Field values and their evidence are listed in
`docs/checkpoint.md`; unknown fields are kept out and never influence the model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from vlm_dlm.errors import CheckpointError

VLM_TYPE = "nemotron_labs_diffusion_vlm"
TEXT_TYPE = "nemotron_labs_diffusion"
SUPPORTED_TYPES = (VLM_TYPE, TEXT_TYPE)


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """YaRN rotary embedding and the llama-4 query scale (`rope_parameters`)."""

    rope_theta: float = 1e6
    factor: float = 16.0
    original_max_position_embeddings: int = 16384
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 1.0
    mscale_all_dim: float = 1.0
    llama_4_scaling_beta: float = 0.1


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """Pixtral vision tower (`vision_config`)."""

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    head_dim: int = 64
    patch_size: int = 14
    num_channels: int = 3
    image_size: int = 1540
    hidden_act: str = "silu"
    rope_theta: float = 10000.0


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One checkpoint. `vision` is None for the text-only family members."""

    model_type: str = VLM_TYPE
    vocab_size: int = 131073
    hidden_size: int = 4096
    intermediate_size: int = 14336
    num_hidden_layers: int = 34
    num_attention_heads: int = 32
    num_key_value_heads: int = 8
    head_dim: int = 128
    rms_norm_eps: float = 1e-5
    max_position_embeddings: int = 262144
    rope: RopeConfig = field(default_factory=RopeConfig)
    block_size: int = 32
    mask_token_id: int = 100
    eos_token_id: int = 11
    spatial_merge_size: int = 2
    projector_hidden_act: str = "gelu"
    vision: VisionConfig | None = field(default_factory=VisionConfig)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> ModelConfig:
        """Parse the published schema. Raises CheckpointError naming the field that is off."""
        model_type = raw.get("model_type")
        if model_type not in SUPPORTED_TYPES:
            supported = ", ".join(SUPPORTED_TYPES)
            raise CheckpointError(
                f"config.json has model_type {model_type!r}; supported are {supported}"
            )
        is_vlm = model_type == VLM_TYPE
        rope = raw.get("rope_parameters")
        if not isinstance(rope, dict):
            raise CheckpointError("config.json has no rope_parameters object")
        vision = raw.get("vision_config") if is_vlm else None
        if is_vlm and not isinstance(vision, dict):
            raise CheckpointError("config.json of a VLM has no vision_config")
        _require_fields(raw, vision)
        _refuse_unsupported(raw)
        known = {f.name for f in fields(cls)} - {"rope", "vision"}
        config = cls(
            rope=_pick(RopeConfig, {"rope_theta": raw.get("rope_theta", 1e6), **rope}),
            vision=None if vision is None else _parse_vision(vision),
            **{name: raw[name] for name in known if name in raw},
        )
        _check_values(config)
        return config

    @classmethod
    def from_folder(cls, folder: Path) -> ModelConfig:
        """Read `config.json` of a checkpoint folder."""
        path = folder / "config.json"
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            raise CheckpointError(f"no config.json in {folder}") from None
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise CheckpointError(f"{path} is not valid JSON: {error}") from None
        if not isinstance(raw, dict):
            raise CheckpointError(f"{path} does not hold a JSON object")
        return cls.from_dict(raw)

    def to_dict(self) -> dict[str, Any]:
        """The published schema, so that other loaders read our checkpoints."""
        is_vlm = self.vision is not None
        name = "NemotronLabsDiffusionVLMModel" if is_vlm else "NemotronLabsDiffusionModel"
        rope = _as_dict(self.rope)
        own = _as_dict(self)
        del own["rope"], own["vision"]
        raw = {
            "architectures": [name],
            **own,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": False,
            "sliding_window": None,
            "rope_parameters": {"rope_type": "yarn", "type": "yarn", **rope},
            "dlm_paradigm": "bidirectional",
            "dlm_type": "llada",
            "dlm_arch": "encoder",
            "torch_dtype": "bfloat16",
        }
        if self.vision is not None:
            raw["multimodal_projector_bias"] = False
            raw["vision_feature_layer"] = -1
            raw["vision_config"] = _vision_dict(self.vision)
        return raw


def _pick(cls: type, raw: dict[str, Any]) -> Any:
    return cls(**{f.name: raw[f.name] for f in fields(cls) if f.name in raw})


def _as_dict(value: Any) -> dict[str, Any]:
    return {f.name: getattr(value, f.name) for f in fields(value)}


def _check_values(config: ModelConfig) -> None:
    """Types and ranges, so that a damaged config is one sentence and not a crash further on."""
    sections = [("", config), ("rope_parameters.", config.rope)]
    if config.vision is not None:
        sections.append(("vision_config.", config.vision))
    for prefix, section in sections:
        for f in fields(section):
            value, default = getattr(section, f.name), f.default
            if isinstance(default, bool) or not isinstance(default, int | float):
                continue
            kinds = int if isinstance(default, int) else int | float
            if isinstance(value, bool) or not isinstance(value, kinds) or value <= 0:
                raise CheckpointError(
                    f"config.json has {prefix}{f.name}={value!r}; it must be a positive number"
                )
    _check_shapes(config)


def _check_shapes(config: ModelConfig) -> None:
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    if heads % kv_heads:
        raise CheckpointError(
            f"config.json has {heads} attention heads, not a multiple of {kv_heads} key/value heads"
        )
    for name in ("mask_token_id", "eos_token_id"):
        if getattr(config, name) >= config.vocab_size:
            raise CheckpointError(
                f"config.json has {name}={getattr(config, name)} in a vocabulary "
                f"of {config.vocab_size}"
            )


def _parse_vision(raw: dict[str, Any]) -> VisionConfig:
    rope = raw.get("rope_parameters") or {}
    if not isinstance(rope, dict) or raw.get("hidden_act", "silu") != "silu":
        raise CheckpointError(
            "config.json has a vision_config with an unknown hidden_act or rope_parameters"
        )
    return _pick(VisionConfig, {**raw, "rope_theta": rope.get("rope_theta", 10000.0)})


def _vision_dict(vision: VisionConfig) -> dict[str, Any]:
    raw = _as_dict(vision)
    theta = raw.pop("rope_theta")
    return {
        "model_type": "pixtral",
        **raw,
        "rope_parameters": {"rope_theta": theta, "rope_type": "default"},
    }


def _require_fields(raw: dict[str, Any], vision: dict[str, Any] | None) -> None:
    """What changes the arithmetic must be said, not guessed. One error lists all that is missing.

    `block_size` is the training's block, and the projector's activation has one value only.
    """
    rope = {"rope_theta": raw.get("rope_theta"), **raw["rope_parameters"]}
    optional = {"model_type", "rope", "vision", "block_size", "projector_hidden_act"}
    optional |= {"spatial_merge_size"} if vision is None else set()
    missing = _missing("", ModelConfig, raw, optional)
    missing += _missing("rope_parameters.", RopeConfig, rope, set())
    if vision is not None:
        optional = {"num_channels", "hidden_act", "rope_theta"}
        missing += _missing("vision_config.", VisionConfig, vision, optional)
        vision_rope = vision.get("rope_parameters")
        if isinstance(vision_rope, dict) and vision_rope.get("rope_theta") is None:
            missing.append("vision_config.rope_parameters.rope_theta")
        if vision_rope is None:
            missing.append("vision_config.rope_parameters")
    if missing:
        raise CheckpointError(f"config.json lacks {', '.join(missing)}")


def _missing(prefix: str, cls: type, raw: dict[str, Any], optional: set[str]) -> list[str]:
    names = (f.name for f in fields(cls) if f.name not in optional)
    return [prefix + name for name in names if raw.get(name) is None]


def _refuse_unsupported(raw: dict[str, Any]) -> None:
    """Fields that would change the arithmetic and that this decoder does not implement."""
    expected = {
        "hidden_act": ("silu",),
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "tie_word_embeddings": (False,),
        "sliding_window": (None,),
        "dlm_type": ("llada",),
        "vision_feature_layer": (-1,),
        "multimodal_projector_bias": (False,),
        "projector_hidden_act": ("gelu",),
    }
    for name, allowed in expected.items():
        if name in raw and raw[name] not in allowed:
            raise CheckpointError(
                f"config.json has {name}={raw[name]!r}; this decoder implements {allowed[0]!r} only"
            )
    rope_type = raw["rope_parameters"].get("rope_type", "yarn")
    if rope_type != "yarn":
        raise CheckpointError(f"config.json has rope_type={rope_type!r}; it must be 'yarn'")
