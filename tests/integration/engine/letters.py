"""A made-up tokenizer whose tokens are letters, and the literal twin of a grammar: a list of all
texts that an answer may be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vlm_dlm.grammar.compiler import GrammarCompiler


class Letters:
    """tokens: the text of each id; '' for those that stand for none."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tokens
        self.reserved_ids = frozenset(i for i, text in enumerate(tokens) if not text)

    def token_bytes(self, token_id: int, skip_special: bool = True) -> bytes:
        return self.tokens[token_id].encode()

    def encode_text(self, text: str) -> list[int]:
        return [self.tokens.index(letter) for letter in text]

    def grammars(self, eos: int) -> GrammarCompiler:
        return GrammarCompiler(self, len(self.tokens), frozenset([eos]))

    def text(self, token_ids: Iterable[int]) -> str:
        return "".join(self.tokens[token_id] for token_id in token_ids)

    def allowed(self, written: Sequence[int], texts: Iterable[str], eos: int) -> list[int]:
        """The ids that may follow, by trying every one with every text."""
        so_far, whole = self.text(written), list(texts)
        found = [
            token_id
            for token_id, piece in enumerate(self.tokens)
            if piece and any(text.startswith(so_far + piece) for text in whole)
        ]
        return [*found, eos] if so_far in whole else found
