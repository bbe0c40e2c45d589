"""Layout, round trips and the chat template of the trained tokenizer."""

import numpy as np
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from vlm_dlm.scenes.language import caption
from vlm_dlm.scenes.samples import sample_rng, sample_scene
from vlm_dlm.scenes.scenes import COLOURS, SHAPES, WORDS
from vlm_dlm.training.tokenizer import (
    CHAT_TEMPLATE,
    build_tokenizer,
    special_name,
    training_texts,
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build_tokenizer(training_texts(600))


def _render(messages: list[dict], **options: bool) -> str:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(CHAT_TEMPLATE).render(messages=messages, **options)


def test_reserved_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == 1640
    named = {0: "<unk>", 2: "</s>", 11: "<|im_end|>", 19: "<|image_pad|>", 100: "<SPECIAL_100>"}
    for token_id, name in named.items():
        assert tokenizer.token_to_id(name) == token_id
        assert tokenizer.encode(name).ids == [token_id]
    assert [tokenizer.id_to_token(i) for i in range(1000)] == [special_name(i) for i in range(1000)]


def test_only_thoughts_survive_skipping_specials(tokenizer: Tokenizer) -> None:
    text = "<|im_start|><think>\nHi</think><|im_end|>"
    ids = tokenizer.encode(text).ids
    assert ids[:3] == [10, 12, 1010]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think>\nHi</think>"
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_bytes_follow_the_specials_by_value(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("\n").ids == [1010]
    assert tokenizer.encode("\n\n7").ids == [1010, 1010, 1000 + ord("7")]
    assert tokenizer.encode("1234").ids == [1000 + ord(digit) for digit in "1234"]


def test_round_trip_of_any_unicode(tokenizer: Tokenizer) -> None:
    rng = np.random.default_rng(0)
    texts = ["", "  two  spaces \r\n\t", "naïve 日本語 🙂\u200d e\u0301", "don't\n\n  x"]
    for limit in (0x80, 0x800, 0xD800, 0x110000):
        for _ in range(50):
            codes = rng.integers(0, limit, 30)
            texts.append("".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000))
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_words_and_captions_are_short(tokenizer: Tokenizer) -> None:
    for word in COLOURS + SHAPES:
        assert len(tokenizer.encode(f" {word}").ids) <= 2
    assert np.mean([len(tokenizer.encode(f" {word}").ids) for word in WORDS]) <= 2.5
    captions = [caption(sample_scene(sample_rng(index, "heldout"))) for index in range(100)]
    assert np.mean([len(tokenizer.encode(text).ids) for text in captions]) < 70


def test_too_few_texts_are_an_error() -> None:
    with pytest.raises(ValueError, match="640 wanted"):
        build_tokenizer(["red circle"])


def test_template_of_one_turn() -> None:
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Hi"}]}]
    turns = "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n<|image_start|>Hi<|im_end|>\n"
    assert _render(messages) == turns
    prompt = turns + "<|im_start|>assistant\n<think>"
    assert _render(messages, add_generation_prompt=True) == prompt + "</think>"
    thinking = _render(messages, add_generation_prompt=True, enable_thinking=True)
    assert thinking == prompt + "\n"


def test_template_of_a_conversation() -> None:
    messages = [
        {"role": "system", "content": "Be brief.\n"},
        {"role": "user", "content": " Hello \n"},
        {"role": "assistant", "content": "<think>\nhm</think>Hi"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
    ]
    assert _render(messages) == (
        "<|im_start|>system\nBe brief.\n<|im_end|>\n"
        "<|im_start|>user\n Hello \n<|im_end|>\n"
        "<|im_start|>assistant\n<think></think>Hi<|im_end|>\n"
        "<|im_start|>user\n<|image_start|><|im_end|>\n"
    )
