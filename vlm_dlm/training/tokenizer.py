"""A byte-level BPE in the family's layout, trained on the project's own sentences.

Ids 0..999 are reserved for specials and BPE entries start at 1000, in the order of Tekken: first
the 256 bytes by value (newline is 1010), then merges by rank. The chat template is the processor's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from vlm_dlm.checkpoint.config import VLM_TYPE, ModelConfig
from vlm_dlm.checkpoint.default_template import CHAT_TEMPLATE as CHAT_TEMPLATE
from vlm_dlm.checkpoint.model_types import MODEL_TYPES
from vlm_dlm.scenes.language import CAPTION_PROMPTS, TEXT_ONLY, caption, sample_questions
from vlm_dlm.scenes.samples import sample_rng, sample_scene
from vlm_dlm.training.recipe import NUM_SPECIAL_IDS

SPECIAL = MODEL_TYPES[VLM_TYPE].special
_NAMED_SPECIALS = {
    0: SPECIAL.unknown,
    1: SPECIAL.begin,
    2: SPECIAL.end_of_text,
    10: SPECIAL.im_start,
    ModelConfig().eos_token_id: SPECIAL.im_end,
    12: SPECIAL.think_start,
    13: SPECIAL.think_end,
    **{token_id: text for text, token_id in SPECIAL.image.items()},
}
# Thoughts survive skip_special_tokens.
_NON_SPECIAL = (SPECIAL.think_start, SPECIAL.think_end)

# A leading space joins its word; digits and newlines stand alone; every character matches.
_SPLIT_PATTERN = (
    r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|[\r\n]|[^\S\r\n]+(?!\S)|[^\S\r\n]"  # spaces before a word
)


def special_name(token_id: int) -> str:
    """Text of a reserved id, such as '<|im_end|>' for 11 or '<SPECIAL_100>' for the mask."""
    return _NAMED_SPECIALS.get(token_id, f"<SPECIAL_{token_id}>")


def training_texts(num: int, seed: int = 0) -> Iterator[str]:
    """Captions, questions and answers of `num` training scenes, and the text-only pairs."""
    for qa in TEXT_ONLY:
        yield qa.question
        yield qa.answer
    for index in range(num):
        # As often as they are used: a prompt that takes many tokens costs all modes.
        yield "system\nuser\nassistant\n"
        yield CAPTION_PROMPTS[index % len(CAPTION_PROMPTS)]
        rng = sample_rng(index, "train", seed, "texts")
        scene = sample_scene(rng)
        yield caption(scene)
        for qa in sample_questions(scene, rng):
            yield qa.question
            yield qa.answer


def build_tokenizer(texts: Iterable[str], num_entries: int = 640) -> Tokenizer:
    """Train a BPE of `num_entries` entries (256 bytes and merges) after the reserved ids.

    Raises:
        ValueError: `texts` have too few repeated pairs for that many entries.
    """
    trained = _train_bpe(texts, num_entries)
    layout = json.loads(trained.to_str())
    entries = _tekken_order(layout["model"]["vocab"])
    if len(entries) != num_entries:
        raise ValueError(f"texts give {len(entries)} BPE entries, {num_entries} wanted")
    specials = {special_name(token_id): token_id for token_id in range(NUM_SPECIAL_IDS)}
    shifted = {entry: NUM_SPECIAL_IDS + rank for rank, entry in enumerate(entries)}
    layout["model"]["vocab"] = specials | shifted
    layout["added_tokens"] = [_added_token(name, token_id) for name, token_id in specials.items()]
    return Tokenizer.from_str(json.dumps(layout))


def _train_bpe(texts: Iterable[str], num_entries: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=num_entries,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _tekken_order(vocab: dict[str, int]) -> list[str]:
    """Bytes by value, then merges in the order they were learnt."""
    byte_values = {char: value for value, char in enumerate(_byte_alphabet())}
    return sorted(
        vocab, key=lambda entry: (entry not in byte_values, byte_values.get(entry, vocab[entry]))
    )


def _byte_alphabet() -> list[str]:
    """The printable character that byte-level BPE writes for each byte value."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [value for value in range(256) if value not in printable]
    return [
        chr(value) if value in printable else chr(256 + hidden.index(value)) for value in range(256)
    ]


def _added_token(name: str, token_id: int) -> dict[str, object]:
    return {
        "id": token_id,
        "content": name,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": name not in _NON_SPECIAL,
    }
