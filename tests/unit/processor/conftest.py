"""A checkpoint folder's text side in miniature: Tekken's structure, few merges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.processor.processor import Processor
from vlm_dlm.processor.tokenizer import Tokenizer

NAMES = {
    0: "<unk>",
    1: "<s>",
    2: "</s>",
    10: "<|im_start|>",
    11: "<|im_end|>",
    12: "<think>",
    13: "</think>",
    18: "<|image_start|>",
    19: "<|image_pad|>",
    20: "<|image_break|>",
    21: "<|image_end|>",
}
WORDS = ("user", "system", "assistant", "ĠSPECIAL", "Ġthe", "image", "Ċ", "ĊĊ", "think", "<think>")
PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_characters() -> list[str]:
    """The byte-level character of each byte, in byte order."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(hidden)) for byte in range(256)]


def tokenizer_json() -> dict[str, Any]:
    """Reserved ids 0..999, bytes from 1000, then merges; one added token at the very end."""
    names = [NAMES.get(index, f"<SPECIAL_{index}>") for index in range(1000)]
    vocab = {name: index for index, name in enumerate(names)}
    for char in byte_characters():
        vocab[char] = len(vocab)
    merges: list[list[str]] = []
    for word in WORDS:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocab:
                merges.append([word[: end - 1], word[end - 1]])
                vocab[word[:end]] = len(vocab)
    contents = [*names, "|<MASK|>"]
    ids = [*range(1000), len(vocab)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated"}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    byte_level["use_regex"] = False
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": token_id, "content": content, "special": "think" not in content, **flags}
            for token_id, content in zip(ids, contents, strict=True)
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{**split, "invert": False}, byte_level],
        },
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": vocab,
            "merges": merges,
        },
    }


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    return ModelConfig(max_position_embeddings=4096)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint")
    (path / "tokenizer.json").write_text(json.dumps(tokenizer_json()), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tokenizer(folder: Path, config: ModelConfig) -> Tokenizer:
    return Tokenizer.from_folder(folder, config)


@pytest.fixture(scope="session")
def library(folder: Path) -> Backend:
    """The file as its own library reads it."""
    return Backend.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="session")
def processor(folder: Path, config: ModelConfig) -> Processor:
    return Processor.from_folder(folder, config)


@pytest.fixture
def raw_tokenizer() -> dict[str, Any]:
    """Content of tokenizer.json, free to be changed by a test."""
    return tokenizer_json()
