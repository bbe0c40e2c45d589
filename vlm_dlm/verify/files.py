"""A checkpoint's side files as they are, before our own strict readers have their say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.checkpoint.json_file import read_object, read_optional_object
from vlm_dlm.checkpoint.manifest import TensorInfo, read_manifest
from vlm_dlm.checkpoint.model_types import model_type_of, read_config
from vlm_dlm.errors import CheckpointError
from vlm_dlm.processor.chat_template import ChatTemplate

SIDE_FILES = ("tokenizer_config.json", "generation_config.json")
ADAPTER_FOLDER = "linear_spec_lora"


@dataclass(frozen=True, slots=True)
class CheckpointFiles:
    """A checkpoint's side files as they are.

    tokens: text of every vocabulary entry and added token to its id.
    special: texts of the added tokens that are flagged special.
    side: content of the optional JSON files, {} where missing.
    """

    folder: Path
    config: ModelConfig
    raw_config: Mapping[str, Any]
    raw_tokenizer: Mapping[str, Any]
    tokens: Mapping[str, int]
    special: frozenset[str]
    side: Mapping[str, Mapping[str, Any]]
    template: ChatTemplate
    has_template: bool
    manifest: Mapping[str, TensorInfo]
    adapter: Path | None

    @classmethod
    def open(cls, folder: Path, adapter: Path | None = None) -> CheckpointFiles:
        """Raises CheckpointError for what cannot be read at all."""
        config = read_config(folder)
        tokenizer = read_object(folder / "tokenizer.json")
        side = {name: read_optional_object(folder / name) for name in SIDE_FILES}
        added = _added(folder, tokenizer)
        own = folder / ADAPTER_FOLDER
        return cls(
            folder=folder,
            config=config,
            raw_config=read_object(folder / "config.json"),
            raw_tokenizer=tokenizer,
            tokens={**_vocabulary(folder, tokenizer), **{text: id_ for text, id_, _ in added}},
            special=frozenset(text for text, _, is_special in added if is_special),
            side=side,
            template=ChatTemplate.from_folder(folder, model_type_of(config)),
            has_template=(folder / "chat_template.jinja").is_file()
            or side["tokenizer_config.json"].get("chat_template") is not None,
            manifest=read_manifest(folder),
            adapter=adapter or (own if own.is_dir() else None),
        )

    @property
    def is_text_only(self) -> bool:
        """No vision tower."""
        return self.config.vision is None


def _vocabulary(folder: Path, tokenizer: Mapping[str, Any]) -> dict[str, int]:
    try:
        return dict(tokenizer["model"]["vocab"])
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"tokenizer.json in {folder} has no vocabulary") from None


def _added(folder: Path, tokenizer: Mapping[str, Any]) -> list[tuple[str, int, bool]]:
    try:
        return [
            (str(entry["content"]), int(entry["id"]), bool(entry.get("special")))
            for entry in tokenizer.get("added_tokens", [])
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CheckpointError(f"tokenizer.json in {folder} has damaged added_tokens") from None
