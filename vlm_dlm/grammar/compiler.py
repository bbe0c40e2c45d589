"""Structures of answers become grammars over the tokens of one checkpoint, by llguidance.

Why llguidance: docs/structured.md. Its limits bound the work of compiling and of every step.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

from vlm_dlm.errors import StructureError
from vlm_dlm.grammar.rule import GrammarFilter, brief
from vlm_dlm.structure import Structure, StructureKind

MAX_CACHED = 16
# Fuel and items are llguidance's own measures of work.
LIMITS = {
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_lexer_states": 20_000,
    "max_grammar_size": 200_000,
    "verbose_errors": False,
}
_NO_OPTIONS = "%llguidance {}"  # before what is made of GBNF
# Texts, patterns and remarks of a grammar.
_QUOTED = re.compile(r'"(\\.|[^"\\])*"|/(\\.|[^/\\\n])+/|//[^\n]*|#[^\n]*')
# A text that the grammar prescribes may be cut into tokens in any way, as where it does not.
_HEAD = '%llguidance {"no_forcing": true}\n'
# Without choices of white space, which small models love to fill answers with.
_ONE_SPELLING: Any = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}


class TokenTable(Protocol):
    """What must be known of a tokenizer."""

    reserved_ids: frozenset[int]

    def token_bytes(self, token_id: int, skip_special: bool = True) -> bytes: ...

    def encode_text(self, text: str) -> list[int]: ...


class GrammarCompiler:
    """Compiles each structure once. Any thread."""

    def __init__(
        self,
        tokens: TokenTable,
        vocab_size: int,
        ending_ids: frozenset[int],
        max_cached: int = MAX_CACHED,
    ) -> None:
        """ending_ids: the checkpoint's end tokens."""
        self._tokens = tokens
        self._vocab_size = vocab_size
        self._ending_ids = ending_ids
        self._max_cached = max_cached
        self._lock = threading.Lock()
        self._compiled: OrderedDict[Structure, Any] = OrderedDict()

    def compile(self, structure: Structure) -> GrammarFilter:
        """A rule for one answer, at its beginning. Blocking the first time.

        Raises StructureError where it is not valid, or beyond a limit.
        """
        with self._lock:
            matcher = self._compiled.get(structure)
            if matcher is not None:
                self._compiled.move_to_end(structure)
        if matcher is None:
            matcher = self._matcher(structure)
            with self._lock:
                self._compiled[structure] = matcher
                while len(self._compiled) > self._max_cached:
                    self._compiled.popitem(last=False)
        return GrammarFilter(matcher.deep_copy(), self._ending_ids)

    def _matcher(self, structure: Structure) -> Any:
        from llguidance import LLMatcher, LLParserLimits

        limits = LLParserLimits(**LIMITS)
        matcher = LLMatcher(self._tokenizer, grammar_of(structure), log_level=0, limits=limits)
        if not matcher.is_error():
            matcher.compute_bitmask()  # finds one that allows nothing, and the work is kept
        if matcher.is_error():
            raise _unusable(structure, matcher.get_error())
        return matcher

    @cached_property
    def _tokenizer(self) -> Any:
        from llguidance import LLTokenizer, TokenizerWrapper

        table = _Table(self._tokens, self._vocab_size, min(self._ending_ids))
        return LLTokenizer(
            TokenizerWrapper(table), n_vocab=self._vocab_size, eos_token=sorted(self._ending_ids)
        )


class _Table:
    """The tokenizer under the names that llguidance looks for."""

    bos_token_id = None

    def __init__(self, tokens: TokenTable, vocab_size: int, eos_token_id: int) -> None:
        self._encode = tokens.encode_text
        self.eos_token_id = eos_token_id
        self.tokens = [tokens.token_bytes(token_id, False) for token_id in range(vocab_size)]
        self.special_token_ids: Sequence[int] = sorted(tokens.reserved_ids)

    def __call__(self, text: bytes | str) -> list[int]:
        return self._encode(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)


def grammar_of(structure: Structure) -> str:
    """In llguidance's form of Lark. Raises StructureError."""
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        if structure.kind is StructureKind.JSON:
            return f"{_HEAD}start: %json {_schema(structure.source)}"
        if structure.kind is StructureKind.CHOICE:
            texts = " | ".join(json.dumps(text) for text in structure.choices())
            return f"{_HEAD}start: {texts}"
        if structure.kind is StructureKind.REGEX:
            return f"{_HEAD}start: /{_escaped(structure.source)}/"
        return _HEAD + _plain_grammar(any_to_lark(structure.source).removeprefix(_NO_OPTIONS))
    except Exception as error:  # readers of grammars raise what they like, also bare Exception
        raise _unusable(structure, str(error)) from None


def _plain_grammar(grammar: str) -> str:
    """Of texts alone. Raises ValueError for one that names tokens or sets the reader's options."""
    outside = _QUOTED.sub("", grammar)
    if "<" in outside or "%llguidance" in grammar:
        raise ValueError("it must not name tokens or set options")
    return grammar


def _escaped(pattern: str) -> str:
    """As it stands between two slashes on one line."""
    pattern = re.sub(r"(\\.)|/", lambda found: found[1] or r"\/", pattern, flags=re.DOTALL)
    return pattern.replace("\n", r"\n").replace("\r", r"\r")


def _unusable(structure: Structure, reason: str) -> StructureError:
    return StructureError(f"the {structure.title} cannot be used: {brief(reason)}")


def _schema(source: str) -> str:
    """With our options of the compiler, which are not a client's to set."""
    schema = json.loads(source)
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise ValueError("a schema is an object, or true")
    return json.dumps({**schema, "x-guidance": _ONE_SPELLING})
