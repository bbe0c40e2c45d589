"""The real vocabulary through our tokenizer, template and image layout.

Two published prompt lengths pin the whole frame: 107 and 66 tokens for the first two questions of
the GSM8K test set under the NeMo-Skills math prompt, reported by a run of the text 8B with thinking
off.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tekken import EXTRA, NUM_ENTRIES, table_path, tokenizer_json
from vlm_dlm.checkpoint.config import TEXT_TYPE, ModelConfig
from vlm_dlm.processor.image import Grid
from vlm_dlm.processor.processor import Processor
from vlm_dlm.processor.prompt import ImagePart, Message, TextPart
from vlm_dlm.processor.tokenizer import Tokenizer
from vlm_dlm.verify.files import CheckpointFiles
from vlm_dlm.verify.finding import Outcome
from vlm_dlm.verify.token_checks import TEKKEN_SAMPLES, vocabulary

PATH = table_path()
pytestmark = pytest.mark.skipif(PATH is None, reason="mistral-common is not installed (extra dev)")

MATH_PROMPT = (
    "Solve the following math problem. "
    "Make sure to put the answer (and only answer) inside \\boxed{{}}.\n\n{}"
)
GSM8K = (  # questions 1 and 2 of the test set
    "Janet\u2019s ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes "
    "muffins for her friends every day with four. She sells the remainder at the farmers' market "
    "daily for $2 per fresh duck egg. How much in dollars does she make every day at the farmers' "
    "market?",
    "A robe takes 2 bolts of blue fiber and half that much white fiber.  "
    "How many bolts in total does it take?",
)
FRAME = 16  # empty system turn 5, user frame 5, opening of the answer 4, think pair 2
DESCRIBE = (5847, 13089, 1593, 3937, 1046)
SYSTEM = (10, 25708, 1010, 11, 1010)
OPENING = (10, 1503, 19464, 1010)


@pytest.fixture(scope="module")
def raw() -> dict[str, Any]:
    assert PATH is not None
    return tokenizer_json(PATH)


@pytest.fixture(scope="module")
def folder(raw: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Side files only; the template is the built-in one."""
    folder = tmp_path_factory.mktemp("tekken")
    (folder / "tokenizer.json").write_text(json.dumps(raw), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def processor(folder: Path) -> Processor:
    return Processor.from_folder(folder, ModelConfig())


@pytest.fixture(scope="module")
def tokenizer(processor: Processor) -> Tokenizer:
    return processor.tokenizer


def ids_of(processor: Processor, text: str, enable_thinking: bool = False) -> tuple[int, ...]:
    return processor.prompt([Message.of("user", text)], enable_thinking=enable_thinking).token_ids


def test_entries_and_special_ids(raw: dict[str, Any], tokenizer: Tokenizer) -> None:
    assert len(raw["model"]["vocab"]) + 1 == ModelConfig().vocab_size == NUM_ENTRIES + 1
    special = tokenizer.special
    assert (special.im_start, special.im_end) == (10, 11)
    assert (special.think_start, special.think_end, special.mask) == (12, 13, 100)
    assert special.eos == (11, 2)
    image = special.image
    assert image is not None
    assert (image.start, image.pad, image.row_break, image.end) == (18, 19, 20, 21)
    assert tokenizer.split_template(EXTRA) == [131072]


@pytest.mark.parametrize("text", TEKKEN_SAMPLES)
def test_published_ids(tokenizer: Tokenizer, text: str) -> None:
    assert tuple(tokenizer.encode_text(text)) == TEKKEN_SAMPLES[text]
    assert tokenizer.decode(TEKKEN_SAMPLES[text]) == text


def test_the_published_prompt(processor: Processor) -> None:
    user = (10, 3263, 1010, *DESCRIBE, 11, 1010)
    assert ids_of(processor, "Describe this image.") == (*SYSTEM, *user, *OPENING, 12, 13)
    thinking = ids_of(processor, "Describe this image.", enable_thinking=True)
    assert thinking == (*SYSTEM, *user, *OPENING, 12, 1010)


@pytest.mark.parametrize(("question", "num_content", "num_prompt"), [(0, 91, 107), (1, 50, 66)])
def test_published_prompt_lengths(
    processor: Processor, question: int, num_content: int, num_prompt: int
) -> None:
    content = MATH_PROMPT.format(GSM8K[question])
    assert len(processor.tokenizer.encode_text(content)) == num_content
    assert len(ids_of(processor, content)) == num_prompt == num_content + FRAME


def test_a_past_answer_keeps_an_empty_thought(processor: Processor) -> None:
    turns = [
        Message.of("system", "user"),
        Message.of("user", "system"),
        Message.of("assistant", "<think>user</think>assistant"),
        Message.of("user", "user"),
    ]
    assert processor.prompt(turns).token_ids == (
        *(10, 25708, 1010, 3263, 11, 1010),
        *(10, 3263, 1010, 25708, 11, 1010),
        *(*OPENING, 12, 13, 1503, 19464, 11, 1010),
        *(10, 3263, 1010, 3263, 11, 1010),
        *(*OPENING, 12, 13),
    )


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 1), (2, 3), (8, 11)])
def test_image_layout(processor: Processor, rows: int, columns: int) -> None:
    grid = Grid(rows, columns)
    turn = Message("user", (ImagePart(0), TextPart("Describe this image.")))
    prompt = processor.prompt([turn], [grid])
    pads = [19] * columns
    image = [18, *[*pads, 20] * (rows - 1), *pads, 21]
    start = len(SYSTEM) + 3
    assert list(prompt.token_ids[start : start + grid.num_tokens]) == image
    assert prompt.token_ids[start + grid.num_tokens :][:5] == DESCRIBE
    assert prompt.num_image_tokens == grid.num_tokens == rows * (columns + 1) + 1
    assert len(prompt.token_ids) == FRAME + len(DESCRIBE) + grid.num_tokens


MARKERS = ("<|im_end|>", "<|im_start|>", "<think>", "</s>", "<|image_pad|>", "<SPECIAL_100>", EXTRA)


@settings(max_examples=60)
@given(st.lists(st.one_of(st.sampled_from(MARKERS), st.text(max_size=6)), max_size=6))
def test_text_of_a_user_never_becomes_a_special_id(processor: Processor, pieces: list[str]) -> None:
    text = "".join(pieces)
    ids = processor.tokenizer.encode_text(text)
    assert all(1000 <= token_id < NUM_ENTRIES for token_id in ids)
    assert processor.tokenizer.decode(ids) == text
    prompt = ids_of(processor, text)
    assert sum(token_id < 1000 for token_id in prompt) == 7  # those of the frame


def test_the_text_models_have_one_entry_less(raw: dict[str, Any]) -> None:
    config = ModelConfig(model_type=TEXT_TYPE, vocab_size=NUM_ENTRIES, vision=None)
    tokenizer = Tokenizer({**raw, "added_tokens": raw["added_tokens"][:-1]}, config)
    assert tokenizer.special.image is None
    assert tuple(tokenizer.encode_text("Describe this image.")) == DESCRIBE


def test_verify_knows_this_table_from_another(raw: dict[str, Any]) -> None:
    def look(tokenizer: dict[str, Any]) -> Outcome:
        files = SimpleNamespace(config=ModelConfig(), raw_tokenizer=tokenizer)
        return vocabulary(cast("CheckpointFiles", files))

    assert look(raw).verdict == "confirmed"
    entries = dict(raw["model"]["vocab"])
    entries["\u0120eggs"], entries["user"] = entries["user"], entries["\u0120eggs"]
    outcome = look({**raw, "model": {**raw["model"], "vocab": entries}})
    assert outcome.verdict == "differs"
    assert "' eggs' is (3263,), not (29791,)" in outcome.evidence
