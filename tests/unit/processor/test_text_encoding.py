"""User text never becomes a special token; template text does."""

from __future__ import annotations

import copy
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.errors import CheckpointError, PromptError
from vlm_dlm.processor.tokenizer import Tokenizer

ADDED = [
    "<|image_start|>",
    "<|image_pad|>",
    "<|image_break|>",
    "<|image_end|>",
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
    "<s>",
    "</s>",
    "<SPECIAL_100>",
    "|<MASK|>",
]


def test_roles_of_special_ids(tokenizer: Tokenizer) -> None:
    special = tokenizer.special
    assert (special.mask, special.im_start, special.im_end, special.eos) == (100, 10, 11, (11, 2))
    assert (special.think_start, special.think_end) == (12, 13)
    image = special.image
    assert image is not None
    assert (image.start, image.pad, image.row_break, image.end) == (18, 19, 20, 21)


def test_every_added_token_stays_text(tokenizer: Tokenizer, raw_tokenizer: dict[str, Any]) -> None:
    for entry in raw_tokenizer["added_tokens"]:
        text = f"a {entry['content']}{entry['content']}\n"
        ids = tokenizer.encode_text(text)
        assert tokenizer.reserved_ids.isdisjoint(ids)
        assert tokenizer.decode(ids) == text
        assert tokenizer.split_template(entry["content"]) == [entry["id"]]


def test_a_reserved_entry_that_is_no_added_token_stays_text(
    raw_tokenizer: dict[str, Any], config: ModelConfig
) -> None:
    kept = [entry for entry in raw_tokenizer["added_tokens"] if entry["id"] not in (7, 500)]
    tokenizer = Tokenizer({**raw_tokenizer, "added_tokens": kept}, config)
    ids = tokenizer.encode_text("<SPECIAL_7> <SPECIAL_500>")
    assert min(ids) >= 1000


@given(st.lists(st.sampled_from(ADDED) | st.text(max_size=8), max_size=8).map("".join))
def test_text_round_trips_without_special_ids(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode_text(text)
    assert tokenizer.reserved_ids.isdisjoint(ids)
    assert tokenizer.decode(ids) == text


@given(st.text(st.characters(codec="utf-8", exclude_characters="<|"), max_size=40))
def test_harmless_text_has_the_ids_of_the_full_tokenizer(
    tokenizer: Tokenizer, library: Backend, text: str
) -> None:
    assert tokenizer.encode_text(text) == library.encode(text, add_special_tokens=False).ids


@given(st.lists(st.integers(0, 1290), max_size=30))
def test_decode_agrees_with_the_library(
    tokenizer: Tokenizer, library: Backend, ids: list[int]
) -> None:
    assert tokenizer.decode(ids, skip_special=False) == library.decode(ids, False)
    kept = [token_id for token_id in ids if token_id >= 1000]
    text = library.decode([i for i in kept if i not in tokenizer.reserved_ids], False)
    assert tokenizer.decode(ids) == text


def test_half_a_surrogate_pair_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(PromptError, match="surrogate"):
        tokenizer.encode_text("\ud83d")


def test_splitting_a_template_finds_all_markers(tokenizer: Tokenizer) -> None:
    pieces = tokenizer.split_template("<|im_start|>user\n<|image_pad|><SPECIAL_1000>")
    assert pieces == [10, "user\n", 19, "<SPECIAL_1000>"]
    assert tokenizer.split_template("") == []


def test_disagreement_with_the_config_names_both_numbers(
    raw_tokenizer: dict[str, Any], config: ModelConfig
) -> None:
    for changed, said in (
        (replace(config, mask_token_id=99), "to 100; the checkpoint uses 99"),
        (replace(config, eos_token_id=2), "to 11; the checkpoint uses 2"),
        (replace(config, vocab_size=1100), "vocab_size 1100"),
    ):
        with pytest.raises(CheckpointError, match=said):
            Tokenizer(raw_tokenizer, changed)


def swap(raw: dict[str, Any], first: str, second: str) -> dict[str, Any]:
    changed = copy.deepcopy(raw)
    vocab = changed["model"]["vocab"]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    for entry in changed["added_tokens"]:
        entry["id"] = vocab.get(entry["content"], entry["id"])
    return changed


def test_moved_image_ids_are_refused_unless_the_model_has_no_vision(
    raw_tokenizer: dict[str, Any], config: ModelConfig
) -> None:
    moved = swap(raw_tokenizer, "<|image_pad|>", "<SPECIAL_30>")
    with pytest.raises(CheckpointError, match="to 30; the checkpoint uses 19"):
        Tokenizer(moved, config)
    assert Tokenizer(moved, replace(config, vision=None)).special.image is None


def test_unusable_files_are_refused(
    tmp_path: Path, raw_tokenizer: dict[str, Any], config: ModelConfig
) -> None:
    with pytest.raises(CheckpointError, match="no tokenizer"):
        Tokenizer.from_folder(tmp_path, config)
    for content in ("{", "[]", "{}", '{"model": {"vocab": {}}}'):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(CheckpointError):
            Tokenizer.from_folder(tmp_path, config)
    del raw_tokenizer["model"]["vocab"]["Ā"]
    with pytest.raises(CheckpointError, match="no token for 1 of 256 bytes"):
        Tokenizer(raw_tokenizer, config)


def test_others_run_while_a_long_text_is_encoded(
    tokenizer: Tokenizer,
) -> None:
    num_turns, is_over = 0, threading.Event()

    def take_turns() -> None:
        nonlocal num_turns
        while not is_over.is_set():
            time.sleep(1e-4)
            num_turns += 1

    other = threading.Thread(target=take_turns)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(10.0)  # the lock changes hands only where it is let go
    try:
        other.start()
        while not num_turns:
            time.sleep(0.01)
        before = num_turns
        tokenizer.encode_text("\U0001d7ce" * 30_000)
        after = num_turns
    finally:
        is_over.set()
        sys.setswitchinterval(interval)
        other.join()
    assert after > before
