"""Structures that are meant to harm: each is refused with a reason or compiled, in bounded time and
memory, and the next one is answered."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.engine.letters import Letters
from vlm_dlm.errors import StructureError, UnavailableError
from vlm_dlm.grammar import trial as trials
from vlm_dlm.grammar.trial import GrammarTrial
from vlm_dlm.limited_process import LimitedProcess
from vlm_dlm.structure import Structure, StructureKind

LETTERS = Letters([*(chr(code) for code in range(32, 127)), "", ""])
EOS = 95
JSON, REGEX = StructureKind.JSON, StructureKind.REGEX
GOOD = Structure(StructureKind.CHOICE, '["yes", "no"]')


@pytest.fixture(scope="module")
def trial() -> Iterator[GrammarTrial]:
    found = GrammarTrial(LETTERS, len(LETTERS.tokens), frozenset([EOS]))
    yield found
    found.close()


def nested(schema: dict[str, Any], levels: int) -> dict[str, Any]:
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


HOSTILE: dict[str, tuple[StructureKind, str]] = {
    "a loop of references": (JSON, '{"$ref": "#"}'),
    "two that refer to each other": (
        JSON,
        '{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}',
    ),
    "a reference to nowhere": (JSON, '{"$ref": "#/$defs/none"}'),
    "an address": (JSON, '{"$ref": "http://127.0.0.1:9/x"}'),
    "a file": (JSON, '{"$ref": "file:///etc/passwd"}'),
    "ten thousand values": (JSON, json.dumps({"enum": [f"v{i}" for i in range(10_000)]})),
    "a thousand properties": (
        *(JSON, json.dumps({"properties": {f"p{i}": {"type": "string"} for i in range(1000)}})),
    ),
    "deep": (JSON, json.dumps(nested({"type": "string"}, 20))),
    "many ways": (
        *(JSON, json.dumps({"anyOf": [nested({"enum": [f"{i}"]}, 5) for i in range(300)]})),
    ),
    "a long list": (JSON, '{"type": "array", "minItems": 1000000, "maxItems": 2000000}'),
    "large numbers": (JSON, '{"type": "integer", "minimum": 1e300, "maximum": 1e301}'),
    "multiples": (JSON, '{"type": "integer", "multipleOf": 9999999}'),
    "ambiguous": (REGEX, "(a|aa)*" * 500 + "b"),
    "repeated thrice": (REGEX, "((a{1,1000}){1,1000}){1,1000}"),
    "long": (REGEX, "[a-z]{1,1000000}"),
    "crossed": (REGEX, "(.*a){200}"),
    "intersecting": (REGEX, "(a?){100}a{100}"),
    "not closed": (REGEX, "((("),
    "of all classes": (REGEX, r"(\w\W\d\D\s\S){500}"),
    "tokens by number": (StructureKind.GRAMMAR, "start: <[96]>"),
    "tokens by name": (StructureKind.GRAMMAR, 'start: "a" <|im_end|> "b"'),
    "options of the reader": (
        StructureKind.GRAMMAR,
        '%llguidance {"no_forcing": false}\nstart: "a"',
    ),
    "what is not known": (JSON, '{"not": {"type": "string"}}'),
    "left recursion": (StructureKind.GRAMMAR, 'start: start start | "a"'),
    "without an end": (StructureKind.GRAMMAR, 'start: "a" start'),
    "unknown": (StructureKind.GRAMMAR, "root ::= nope"),
    "nothing": (StructureKind.GRAMMAR, "%%%%"),
    "many rules": (
        *(StructureKind.GRAMMAR, "start: r0\n" + "\n".join(f"r{i}: r{i + 1}" for i in range(4000))),
    ),
}


REFUSED = {
    "a loop of references",
    "two that refer to each other",
    "a reference to nowhere",
    "an address",
    "a file",
    "not closed",
    "unknown",
    "nothing",
    "tokens by number",
    "tokens by name",
    "options of the reader",
    "what is not known",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_ends_in_time_and_the_next_is_answered(trial: GrammarTrial, name: str) -> None:
    kind, source = HOSTILE[name]
    began_s = time.thread_time(), time.monotonic()
    reason = ""
    try:
        trial.check(Structure(kind, source))
    except StructureError as error:
        reason = str(error)
    assert len(reason) < 300
    assert bool(reason) or name not in REFUSED
    assert time.thread_time() - began_s[0] < 0.5, "the work is the child's"
    assert time.monotonic() - began_s[1] < trials.WALL_S
    trial.check(Structure(REGEX, f"after {len(name)} {kind} {len(source)}"))


def test_one_over_its_limits_fails_alone(
    trial: GrammarTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child is killed as the system kills it where a limit is passed."""
    trial.check(Structure(REGEX, "alive"))
    start = trial._start
    monkeypatch.setattr(trial, "_start", lambda: _killed_at_once(start()))
    trial._child = None
    with pytest.raises(StructureError, match="takes more than 2 processor seconds or 1024 MiB"):
        trial.check(Structure(REGEX, "unseen"))
    monkeypatch.undo()
    trial.check(Structure(REGEX, "unseen too"))


def test_a_child_that_was_ended_from_outside_is_nobodys_fault(trial: GrammarTrial) -> None:
    trial.check(Structure(REGEX, "there"))
    assert trial._child is not None
    _killed_at_once(trial._child)
    trial.check(Structure(REGEX, "innocent"))


def _killed_at_once(child: LimitedProcess) -> LimitedProcess:
    os.kill(child.end.peek()[2][0].pid, signal.SIGKILL)  # type: ignore[index]
    return child


def test_on_a_starved_machine_it_is_the_servers_fault(
    trial: GrammarTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.check(Structure(REGEX, "still alive"))
    child = trial._child
    assert child is not None
    monkeypatch.setattr(trials, "WALL_S", 0.3)
    os.kill(child.end.peek()[2][0].pid, signal.SIGSTOP)  # type: ignore[index]
    waiting = Structure(REGEX, "waiting")
    with pytest.raises(UnavailableError):
        trial.check(waiting)
    monkeypatch.undo()
    trial.check(waiting)  # it was not its fault, so nothing was kept of it


def test_what_is_known_is_not_asked_again(
    trial: GrammarTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Structure(REGEX, "(")
    for _ in range(2):
        with pytest.raises(StructureError, match="cannot be used"):
            trial.check(bad)
        monkeypatch.setattr(GrammarTrial, "_reason", None)
    monkeypatch.undo()


def test_the_child_sees_no_environment_and_ends_with_its_owner() -> None:
    own = GrammarTrial(LETTERS, len(LETTERS.tokens), frozenset([EOS]))
    own.check(GOOD)
    child = own._child
    assert child is not None
    pid = child.end.peek()[2][0].pid  # type: ignore[index]
    own.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
