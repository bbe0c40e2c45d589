"""A checkpoint's JSON files are refused in the same words, whoever reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from vlm_dlm.checkpoint.config import VLM_TYPE
from vlm_dlm.checkpoint.json_file import read_optional_object
from vlm_dlm.checkpoint.model_types import MODEL_TYPES, read_config
from vlm_dlm.errors import CheckpointError
from vlm_dlm.model.lora_loading import check_draft_adapter
from vlm_dlm.processor.chat_template import ChatTemplate
from vlm_dlm.processor.tokenizer import Tokenizer

NO_CONFIG = cast("Any", None)
READERS: dict[str, Callable[[Path], Any]] = {
    "config.json": read_config,
    "adapter_config.json": lambda folder: check_draft_adapter(NO_CONFIG, folder),
    "tokenizer.json": lambda folder: Tokenizer.from_folder(folder, NO_CONFIG),
    "tokenizer_config.json": lambda folder: ChatTemplate.from_folder(folder, MODEL_TYPES[VLM_TYPE]),
    "generation_config.json": lambda folder: read_optional_object(
        folder / "generation_config.json"
    ),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"{", "is not valid JSON: "),
        (b"\xff", "is not valid JSON: 'utf-8'"),
        (b"[" * 200_000, "is not valid JSON: maximum recursion"),
        (b"[]", "does not hold a JSON object"),
    ],
)
def test_one_wording(tmp_path: Path, name: str, content: bytes, fault: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError) as refusal:
        READERS[name](tmp_path)
    assert str(refusal.value).startswith(f"{tmp_path / name} {fault}")


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json", "tokenizer.json"])
def test_one_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^no {name} in "):
        READERS[name](tmp_path)


def test_one_that_may_be_missing(tmp_path: Path) -> None:
    assert read_optional_object(tmp_path / "x.json") == {}
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_optional_object(tmp_path)
