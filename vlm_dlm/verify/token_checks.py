"""Ids with a role, as the files have them. Sources: the family's published tokenizers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from tokenizers import Tokenizer as Backend

from vlm_dlm.verify.files import CheckpointFiles
from vlm_dlm.verify.finding import Outcome, Verdict, compared, skipped, unclear

CHAT_MARKERS = {"<|im_start|>": 10, "<|im_end|>": 11}
THINK_MARKERS = {"<think>": 12, "</think>": 13}
END_OF_TEXT = {"<s>": 1, "</s>": 2}
IMAGE_TOKENS = {
    "<|image_start|>": 18,
    "<|image_pad|>": 19,
    "<|image_break|>": 20,
    "<|image_end|>": 21,
}
MASK = "<SPECIAL_100>"
OTHER_MASK = "|<MASK>|"
MASK_ID, OTHER_MASK_ID, IMAGE_TOKEN_ID = 100, 131072, 19
IMAGE_FIELDS = ("image_token_id", "image_token_index")
FULL_VOCABULARY = 131072
# From the public table tekken_240911, id = rank + 1000.
TEKKEN_SAMPLES: Mapping[str, tuple[int, ...]] = {
    "system": (25708,),
    "user": (3263,),
    "assistant": (1503, 19464),
    "Describe this image.": (5847, 13089, 1593, 3937, 1046),
    ".\n\n": (1338,),
    " eggs": (29791,),
    "\n": (1010,),
}


def chat_markers(files: CheckpointFiles) -> Outcome:
    """`<|im_start|>` and `<|im_end|>`."""
    return _ids(files, CHAT_MARKERS)


def think_markers(files: CheckpointFiles) -> Outcome:
    """Ids, and that they are plain added tokens, which survive `skip_special_tokens`."""
    found = _ids(files, THINK_MARKERS)
    flagged = sorted(files.special & THINK_MARKERS.keys())
    if found.verdict is Verdict.CONFIRMED and flagged:
        return Outcome(Verdict.DIFFERS, f"{found.evidence}; flagged special: {', '.join(flagged)}")
    return found


def end_of_text(files: CheckpointFiles) -> Outcome:
    """`<s>` and `</s>`."""
    return _ids(files, END_OF_TEXT)


def image_tokens(files: CheckpointFiles) -> Outcome:
    """The four image tokens."""
    return skipped("a text-only checkpoint") if files.is_text_only else _ids(files, IMAGE_TOKENS)


def image_constant(files: CheckpointFiles) -> Outcome:
    """What config.json calls the image token, if it does."""
    if files.is_text_only:
        return skipped("a text-only checkpoint")
    named = {name: files.raw_config[name] for name in IMAGE_FIELDS if name in files.raw_config}
    if not named:
        return compared(True, "config.json does not name one")
    return compared(all(value == IMAGE_TOKEN_ID for value in named.values()), _listed(named))


def mask_token(files: CheckpointFiles) -> Outcome:
    """That config.json and tokenizer.json mean the same id, and that it is the reserved one."""
    ids = {"mask_token_id": files.config.mask_token_id, MASK: files.tokens.get(MASK)}
    evidence = _listed(ids)
    is_same = set(ids.values()) == {MASK_ID}
    other = files.tokens.get(OTHER_MASK)
    if other is not None:
        evidence += f"; {OTHER_MASK} is {other}, which decoding does not use"
        is_same = is_same and other == OTHER_MASK_ID
    return compared(is_same, evidence)


def end_token(files: CheckpointFiles) -> Outcome:
    """`eos_token_id` of config.json and, where there is one, of generation_config.json."""
    ids = {"config.json": files.config.eos_token_id}
    listed = files.side["generation_config.json"].get("eos_token_id")
    wanted = CHAT_MARKERS["<|im_end|>"]
    is_same = ids["config.json"] == wanted
    evidence = _listed(ids)
    if listed is not None:
        evidence += f", generation_config.json {listed}"
        is_same = is_same and wanted in (listed if isinstance(listed, list) else [listed])
    return compared(is_same, evidence)


def pad_token(files: CheckpointFiles) -> Outcome:
    """Nothing is padded here, so a pad id matters only where it names a token that does."""
    text = files.side["tokenizer_config.json"].get("pad_token")
    text = text.get("content") if isinstance(text, dict) else text
    named = files.raw_config.get("pad_token_id", files.tokens.get(str(text)))
    if named is None:
        return unclear("no file names a pad token")
    reserved = {files.config.mask_token_id, *IMAGE_TOKENS.values()}
    return compared(named not in reserved, f"the pad token has id {named}")


def vocabulary(files: CheckpointFiles) -> Outcome:
    """A few strings through the checkpoint's BPE against the public Tekken table."""
    if files.config.vocab_size < FULL_VOCABULARY:
        return skipped(f"this checkpoint has its own vocabulary of {files.config.vocab_size}")
    backend = Backend.from_str(json.dumps(files.raw_tokenizer))
    wrong: list[str] = []
    for text, ids in TEKKEN_SAMPLES.items():
        found = tuple(backend.encode(text, add_special_tokens=False).ids)
        if found != ids:
            wrong.append(f"{text!r} is {found}, not {ids}")
    evidence = "; ".join(wrong) or f"{len(TEKKEN_SAMPLES)} strings have the ids of tekken_240911"
    return compared(not wrong, evidence)


def _ids(files: CheckpointFiles, wanted: Mapping[str, int]) -> Outcome:
    found = {text: files.tokens.get(text) for text in wanted}
    return compared(found == dict(wanted), _listed(found))


def _listed(values: Mapping[str, object]) -> str:
    pairs: Iterable[tuple[str, object]] = values.items()
    return ", ".join(f"{name} {'missing' if value is None else value}" for name, value in pairs)
