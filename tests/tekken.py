"""The family's tokenizer.json, built from the public table that mistral-common ships.

`tekken_240911`: byte-level BPE ranks; the id of a token is its rank + 1000. The first 1000 ids are
the family's specials; the VLM has one more entry at the end, 131072. Only the data file is read, so
the package's own dependencies are not needed.
"""

from __future__ import annotations

import base64
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vlm_dlm.training.tokenizer import special_name

NUM_SPECIAL, NUM_ENTRIES = 1000, 131_072
NOT_SPECIAL = (12, 13, NUM_ENTRIES)  # thoughts and the extra entry are plain added tokens
EXTRA = "|<MASK>|"
TABLE = "tekken_240911.json"


def table_path() -> Path | None:
    """The table's file, or None where mistral-common is not installed."""
    spec = find_spec("mistral_common")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / "data" / TABLE
    return path if path.is_file() else None


def tokenizer_json(path: Path) -> dict[str, Any]:
    """Content of a tokenizer.json with 131,073 entries, of which the last is an added token."""
    table = json.loads(path.read_text(encoding="utf-8"))
    ranks = {
        base64.b64decode(entry["token_bytes"]): entry["rank"]
        for entry in table["vocab"][: NUM_ENTRIES - NUM_SPECIAL]
    }
    vocabulary = {special_name(i): i for i in range(NUM_SPECIAL)}
    vocabulary |= {_spelled(token): rank + NUM_SPECIAL for token, rank in ranks.items()}
    added = [(special_name(i), i) for i in range(NUM_SPECIAL)]
    added.append((EXTRA, NUM_ENTRIES))
    return {
        "version": "1.0",
        "added_tokens": [_added(text, token_id) for text, token_id in added],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": table["config"]["pattern"]},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {
                    "type": "ByteLevel",
                    "add_prefix_space": False,
                    "trim_offsets": True,
                    "use_regex": False,
                },
            ],
        },
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "unk_token": None,
            "ignore_merges": True,
            "vocab": vocabulary,
            "merges": _merges(ranks),
        },
    }


def _added(text: str, token_id: int) -> dict[str, Any]:
    return {
        "id": token_id,
        "content": text,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": token_id not in NOT_SPECIAL,
    }


def _merges(ranks: dict[bytes, int]) -> list[list[str]]:
    """A table of ranks as pairs to merge, in order: every way to cut a token into two others."""
    merges: list[list[str]] = []
    for token in ranks:  # by rank
        cuts = ((token[:i], token[i:]) for i in range(1, len(token)))
        pairs = [pair for pair in cuts if pair[0] in ranks and pair[1] in ranks]
        pairs.sort(key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
        merges += ([_spelled(left), _spelled(right)] for left, right in pairs)
    return merges


def _alphabet() -> list[str]:
    """How byte-level BPE writes each byte (GPT-2's table)."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(hidden)) for byte in range(256)]


_ALPHABET = _alphabet()


def _spelled(token: bytes) -> str:
    return "".join(_ALPHABET[byte] for byte in token)
