"""A grammar as a rule: what it allows anywhere is what a list of all texts allows there, whichever
way it was led to the place."""

from __future__ import annotations

import json
import random

import pytest
import torch

from tests.integration.engine.letters import Letters
from vlm_dlm.errors import StructureError
from vlm_dlm.grammar.compiler import LIMITS, GrammarCompiler, grammar_of
from vlm_dlm.grammar.rule import GrammarFilter
from vlm_dlm.structure import Structure, StructureKind

TOKENS = ["a", "b", "ab", "abc", "c", "bc", "x", "", "", ""]
EOS, MASK, SIZE = 7, 9, len(TOKENS)
LETTERS = Letters(TOKENS)
TEXTS = ["abc", "abcabc", "a", "xx", "xbc", "cab"]
CHOICE = Structure(StructureKind.CHOICE, json.dumps(TEXTS))
CPU = torch.device("cpu")


def rule(structure: Structure = CHOICE) -> GrammarFilter:
    return LETTERS.grammars(EOS).compile(structure)


def allowed(grammar: GrammarFilter) -> list[int] | None:
    """By its mask and by asking for each; None where it says nothing."""
    bias = grammar.bias(SIZE, CPU)
    asked = [token_id for token_id in range(SIZE) if grammar.allows(token_id)]
    if bias is None:
        assert asked == list(range(SIZE))
        return None
    masked = [token_id for token_id in range(SIZE) if bias[token_id] == 0.0]
    assert masked == asked
    return masked


def expected(written: list[int]) -> list[int]:
    return sorted(LETTERS.allowed(written, TEXTS, EOS))


def test_a_walk_at_random_forth_and_back() -> None:
    rng, grammar, written = random.Random(0), rule(), list[int]()
    for _ in range(300):
        assert allowed(grammar) == expected(written)
        if written and rng.random() < 0.4:
            num = rng.randint(1, len(written))
            grammar.rollback(num)
            written = written[: len(written) - num]
        elif choices := [token_id for token_id in expected(written) if token_id != EOS]:
            token_id = rng.choice(choices)
            grammar.push([token_id])
            written.append(token_id)


def test_a_fork_moves_alone() -> None:
    grammar = rule()
    grammar.push([0])
    other = grammar.fork()
    other.push([1, 4])
    assert allowed(grammar) == expected([0])
    assert allowed(other) == expected([0, 1, 4])
    other.rollback(3)
    assert allowed(other) == expected([])


@pytest.mark.parametrize("lost", [6, None, EOS, MASK])
def test_after_a_place_without_a_rule_nothing_is_said_until_it_is_left(lost: int | None) -> None:
    """A token that is not allowed, a place that is not filled, an end, the mask."""
    grammar = rule()
    grammar.push([0])
    grammar.push([lost, 1])
    assert allowed(grammar) is None
    grammar.rollback(1)
    assert allowed(grammar) is None
    grammar.rollback(1)
    assert allowed(grammar) == expected([0])


def test_rows_may_be_longer_than_the_tokens() -> None:
    bias = rule().bias(SIZE + 6, CPU)
    assert bias is not None
    assert bias.shape == (SIZE + 6,)
    assert torch.isinf(bias[SIZE:]).all()


def test_a_structure_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = LETTERS.grammars(EOS)
    first = compiler.compile(CHOICE)
    monkeypatch.setattr(GrammarCompiler, "_matcher", None)
    second = compiler.compile(CHOICE)
    first.push([6])
    assert allowed(second) == expected([])


def test_work_in_a_step_is_bounded() -> None:
    """One that needs more than a step may take fails with the reason, when it is compiled or on the
    way."""
    source = "(a|aa)*" * 500 + "b"

    def write() -> None:
        grammar = rule(Structure(StructureKind.REGEX, source))
        for _ in range(200):
            grammar.bias(SIZE, CPU)
            grammar.push([0])

    with pytest.raises(StructureError, match=r"cannot be (used|followed)"):
        write()
    assert LIMITS["verbose_errors"] is False


def test_a_client_cannot_set_options_of_the_compiler() -> None:
    plain = grammar_of(Structure(StructureKind.JSON, '{"type": "object"}'))
    given = '{"type": "object", "x-guidance": {"whitespace_flexible": true, "lenient": true}}'
    assert grammar_of(Structure(StructureKind.JSON, given)) == plain


@pytest.mark.parametrize(
    ("pattern", "text"),
    [("a/b", "a/b"), (r"a\/b", "a/b"), ("a\nb", "a\nb"), (r"a\\/b", "a\\/b"), ("a/|c", "c")],
)
def test_slashes_and_lines_in_patterns_are_what_they_are(pattern: str, text: str) -> None:
    letters = Letters(["a", "b", "/", "\n", "\\", "c", "", ""])
    grammar = letters.grammars(7).compile(Structure(StructureKind.REGEX, pattern))
    for token_id in letters.encode_text(text):
        assert grammar.allows(token_id)
        grammar.push([token_id])
    assert grammar.allows(7)
