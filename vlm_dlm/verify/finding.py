"""What a check is, and what it finds. Free of torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

SubjectT = TypeVar("SubjectT")


class Verdict(StrEnum):
    """UNCLEAR: the check ran and its figures decide nothing. SKIPPED: it does not apply here."""

    CONFIRMED = "confirmed"
    DIFFERS = "differs"
    UNCLEAR = "could not tell"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one look gave.

    evidence: the figures behind the verdict, or the reason to skip.
    """

    verdict: Verdict
    evidence: str


@dataclass(frozen=True, slots=True)
class Check(Generic[SubjectT]):
    """A question.

    assumed: what this project takes for granted.
    setting: what to change where that is wrong.
    """

    name: str
    assumed: str
    setting: str
    look: Callable[[SubjectT], Outcome]


@dataclass(frozen=True, slots=True)
class Finding:
    """An answered question, in plain values."""

    check: str
    assumed: str
    verdict: str
    evidence: str
    setting: str


def compared(is_same: bool, evidence: str) -> Outcome:
    """Confirmed or differs."""
    return Outcome(Verdict.CONFIRMED if is_same else Verdict.DIFFERS, evidence)


def skipped(reason: str) -> Outcome:
    """For a question that does not arise."""
    return Outcome(Verdict.SKIPPED, reason)


def unclear(evidence: str) -> Outcome:
    """For figures that decide nothing."""
    return Outcome(Verdict.UNCLEAR, evidence)
