"""Token ids to text as they arrive, never half a character."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from vlm_dlm.processor.tokenizer import Tokenizer


class IncrementalDetokenizer:
    """Streams the text of one answer. The pieces join to exactly `Tokenizer.decode` of all ids.

    Works on bytes, so each id costs its own length only: the bytes of an unfinished character are
    held back until the rest arrives.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_ids: Iterable[int]) -> str:
        """Text that `token_ids` complete; may be empty."""
        to_bytes = self._tokenizer.token_bytes
        data = b"".join(to_bytes(token_id, self._skip_special) for token_id in token_ids)
        return self._decoder.decode(data)

    def flush(self) -> str:
        """End of the answer: U+FFFD if a character was left unfinished, else nothing."""
        return self._decoder.decode(b"", final=True)
