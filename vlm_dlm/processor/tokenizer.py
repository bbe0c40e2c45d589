"""Text to token ids and back, with user text kept away from every special token.

Owns the two encoders and the byte view of a token. A checkpoint's added tokens (chat markers, image
tokens, the mask) are recognised in template text only. See `docs/checkpoint.md`, tokenizer.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.checkpoint.json_file import read_object
from vlm_dlm.checkpoint.model_types import IMAGE_TOKENS, SpecialTokens, model_type_of
from vlm_dlm.errors import CheckpointError, PromptError


@dataclass(frozen=True, slots=True)
class ImageIds:
    """Ids that frame the features of one image."""

    start: int
    pad: int
    row_break: int
    end: int


IMAGE_IDS = ImageIds(*IMAGE_TOKENS.values())  # of the published vocabulary


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Ids with a role. `eos` are the ids that end an answer; `image` is None for text models."""

    mask: int
    im_start: int
    im_end: int
    think_start: int
    think_end: int
    eos: tuple[int, ...]
    image: ImageIds | None


class Tokenizer:
    """Byte-level BPE of one checkpoint. Thread-safe after construction."""

    def __init__(self, raw: dict[str, Any], config: ModelConfig) -> None:
        """`raw` is the content of `tokenizer.json`. Raises CheckpointError if it contradicts
        `config` or is not a byte-level BPE."""
        try:
            vocab: dict[str, int] = raw["model"]["vocab"]
            added = {entry["content"]: int(entry["id"]) for entry in raw.get("added_tokens", [])}
            self._backend = Backend.from_str(json.dumps(raw))
            self._reserved = _reserved_tokens(vocab, added)
            self._plain = Backend.from_str(json.dumps(_without(raw, set(self._reserved))))
        except CheckpointError:
            raise
        except Exception:  # the library raises bare Exception on a malformed file
            raise CheckpointError("tokenizer.json is not a usable byte-level BPE") from None
        self.reserved_ids = frozenset(self._reserved.values())
        longest_first = sorted(added, key=len, reverse=True)
        self._markers = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._added = added
        self._bytes: dict[int, bytes] = {}
        largest = max((*vocab.values(), *added.values()))
        if largest >= config.vocab_size:
            raise CheckpointError(
                f"tokenizer.json has id {largest}; config.json has vocab_size {config.vocab_size}"
            )
        self.names = model_type_of(config).special
        self.special = _special_ids(self._reserved, self.names, config)

    @classmethod
    def from_folder(cls, folder: Path, config: ModelConfig) -> Tokenizer:
        """Read `tokenizer.json`. Raises CheckpointError when it is missing or unusable."""
        return cls(read_object(folder / "tokenizer.json"), config)

    def encode_text(self, text: str) -> list[int]:
        """Ids of untrusted text. `<|im_end|>` in it stays the characters it is written with.

        Raises PromptError for text that has no UTF-8 form.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise PromptError("the text holds half of a surrogate pair") from None
        # `encode` would keep the interpreter's lock, and all other requests, until it is done.
        (encoding,) = self._plain.encode_batch_fast([text], add_special_tokens=False)
        ids = encoding.ids
        if not self.reserved_ids.isdisjoint(ids):  # the last line of defence, so not an assert
            raise PromptError("the text encodes to a reserved token")
        return ids

    def split_template(self, text: str) -> list[str | int]:
        """Cut trusted template text into plain strings and the ids of the added tokens in it."""
        pieces: list[str | int] = []
        end = 0
        for match in self._markers.finditer(text):
            if match.start() > end:
                pieces.append(text[end : match.start()])
            pieces.append(self._added[match.group()])
            end = match.end()
        if end < len(text):
            pieces.append(text[end:])
        return pieces

    def token_bytes(self, token_id: int, skip_special: bool = True) -> bytes:
        """UTF-8 bytes that a token stands for, often a part of a character only.

        Empty for ids without an entry and, with `skip_special`, for every reserved token, the
        think markers included (the file does not flag those as special).
        """
        if skip_special and token_id in self.reserved_ids:
            return b""
        found = self._bytes.get(token_id)
        if found is None:
            token = self._backend.id_to_token(token_id) or ""
            found = self._bytes[token_id] = _bytes_of(token)
        return found

    def decode(self, ids: list[int] | tuple[int, ...], skip_special: bool = True) -> str:
        """Text of `ids`; bytes that form no character become U+FFFD."""
        data = b"".join(self.token_bytes(token_id, skip_special) for token_id in ids)
        return data.decode("utf-8", "replace")


def _byte_alphabet() -> dict[str, int]:
    """The character that byte-level BPE writes for each byte: itself if printable, else 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + index): byte for index, byte in enumerate(hidden)}


_ALPHABET = _byte_alphabet()


def _bytes_of(token: str) -> bytes:
    if all(char in _ALPHABET for char in token):
        return bytes(_ALPHABET[char] for char in token)
    return token.encode("utf-8")


def _reserved_tokens(vocab: dict[str, int], added: dict[str, int]) -> dict[str, int]:
    """Added tokens, and vocabulary entries below the first byte token (the reserved range)."""
    missing = sum(char not in vocab for char in _ALPHABET)
    if missing:
        raise CheckpointError(f"tokenizer.json has no token for {missing} of 256 bytes")
    first_byte_id = min(vocab[char] for char in _ALPHABET)
    low = {token: token_id for token, token_id in vocab.items() if token_id < first_byte_id}
    return low | added


def _without(raw: dict[str, Any], reserved: set[str]) -> dict[str, Any]:
    """The same tokenizer with no added tokens and no way to reach a reserved entry."""
    model = raw["model"]
    vocab = {token: token_id for token, token_id in model["vocab"].items() if token not in reserved}
    merges = [merge for merge in model["merges"] if _merge_result(merge) in vocab]
    merges = [merge for merge in merges if reserved.isdisjoint(_merge_parts(merge))]
    stripped = {**model, "vocab": vocab, "merges": merges, "unk_token": None}
    return {**raw, "added_tokens": [], "post_processor": None, "model": stripped}


def _merge_parts(merge: list[str] | str) -> list[str]:
    """Older files write a merge as 'left right', newer ones as a pair."""
    return merge.split(" ") if isinstance(merge, str) else merge


def _merge_result(merge: list[str] | str) -> str:
    return "".join(_merge_parts(merge))


def _special_ids(reserved: dict[str, int], names: SpecialTokens, config: ModelConfig) -> SpecialIds:
    def find(name: str, expected: int | None = None) -> int:
        if name not in reserved:
            raise CheckpointError(f"tokenizer.json has no special token {name}")
        if expected is not None and reserved[name] != expected:
            raise CheckpointError(
                f"tokenizer.json maps {name} to {reserved[name]}; the checkpoint uses {expected}"
            )
        return reserved[name]

    im_end = find(names.im_end, config.eos_token_id)
    end_of_text = reserved.get(names.end_of_text)
    image = None
    if config.vision is not None:
        image = ImageIds(*(find(name, expected) for name, expected in names.image.items()))
    return SpecialIds(
        mask=find(names.mask, config.mask_token_id),
        im_start=find(names.im_start),
        im_end=im_end,
        think_start=find(names.think_start),
        think_end=find(names.think_end),
        eos=(im_end,) if end_of_text is None else (im_end, end_of_text),
        image=image,
    )
