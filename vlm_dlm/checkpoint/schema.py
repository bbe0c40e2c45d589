"""The published `config.json` schema, read and written.

Unknown fields are kept out and never influence the model; what would change the arithmetic is
demanded or refused, never guessed.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from vlm_dlm.checkpoint.config import ModelConfig, RopeConfig, VisionConfig
from vlm_dlm.errors import CheckpointError


def parse_vlm(raw: dict[str, Any]) -> ModelConfig:
    """With a vision tower. Raises CheckpointError naming the field that is off."""
    vision = raw.get("vision_config")
    if not isinstance(vision, dict):
        raise CheckpointError("config.json of a VLM has no vision_config")
    return _parse(raw, vision)


def parse_text(raw: dict[str, Any]) -> ModelConfig:
    """Without one. Raises CheckpointError naming the field that is off."""
    return _parse(raw, None)


def _parse(raw: dict[str, Any], vision: dict[str, Any] | None) -> ModelConfig:
    rope = raw.get("rope_parameters")
    if not isinstance(rope, dict):
        raise CheckpointError("config.json has no rope_parameters object")
    _require_fields(raw, vision)
    _refuse_unsupported(raw)
    known = {f.name for f in fields(ModelConfig)} - {"rope", "vision"}
    config = ModelConfig(
        rope=_pick(RopeConfig, {"rope_theta": raw.get("rope_theta", 1e6), **rope}),
        vision=None if vision is None else _parse_vision(vision),
        **{name: raw[name] for name in known if name in raw},
    )
    _check_values(config)
    return config


def written(config: ModelConfig) -> dict[str, Any]:
    """The fields of the schema but `architectures`, so that other loaders read our checkpoints."""
    rope = _as_dict(config.rope)
    own = _as_dict(config)
    del own["rope"], own["vision"]
    raw = {
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
    if config.vision is not None:
        raw["multimodal_projector_bias"] = False
        raw["vision_feature_layer"] = -1
        raw["vision_config"] = _vision_dict(config.vision)
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
