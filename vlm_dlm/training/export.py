"""The finished checkpoint folder: weights, config, text and image side files, provenance."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.model.weights import save_model
from vlm_dlm.training.recipe import Recipe
from vlm_dlm.training.state import RunState
from vlm_dlm.training.tokenizer import CHAT_TEMPLATE, SPECIAL

_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pillow")


def export(model: VlmModel, state: RunState, recipe: Recipe, out: Path) -> None:
    """Write the folder that the engine loads. Each file appears whole or not at all."""
    save_model(model, out)
    config = model.config
    _write(out / "tokenizer.json", state.tokenizer)
    _write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": False,
            "bos_token": SPECIAL.begin,
            "eos_token": SPECIAL.im_end,
            "pad_token": SPECIAL.im_end,
            "unk_token": SPECIAL.unknown,
            "clean_up_tokenization_spaces": False,
            "model_max_length": config.max_position_embeddings,
        },
    )
    _write(out / "chat_template.jinja", CHAT_TEMPLATE)
    patch_size = 14 if config.vision is None else config.vision.patch_size
    _write_json(
        out / "preprocessor_config.json",
        {
            "image_mean": list(recipe.image_mean),
            "image_std": list(recipe.image_std),
            "max_image_size": recipe.max_side,
            "patch_size": patch_size,
            "spatial_merge_size": config.spatial_merge_size,
        },
    )
    _write_json(
        out / "generation_config.json", {"eos_token_id": config.eos_token_id, "do_sample": False}
    )
    _write_json(out / "training.json", provenance(state, recipe))


def provenance(state: RunState, recipe: Recipe) -> dict[str, Any]:
    """How the weights came about."""
    return {
        "seed": state.seed,
        "begins_with_trained_weights": state.has_start,
        "seconds": {stage: round(seconds, 1) for stage, seconds in state.seconds.items()},
        "steps": state.steps,
        "samples": state.samples,
        "evaluation": {name: round(value, 5) for name, value in state.evaluation.items()},
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "cpu_cores": os.cpu_count(),
        },
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        },
        "recipe": asdict(recipe),
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write(path, json.dumps(content, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
