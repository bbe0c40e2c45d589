"""Goes through the table. A check that fails to run is a finding too, never the end of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from vlm_dlm.errors import VlmDlmError
from vlm_dlm.verify.finding import Check, Finding, Outcome, Verdict, skipped, unclear

SubjectT = TypeVar("SubjectT")
Say = Callable[[str], None]


def run_checks(
    checks: Sequence[Check[SubjectT]], subject: SubjectT, say: Say = lambda text: None
) -> Iterator[Finding]:
    """One finding per check, in the order of the table. say: told what is looked at."""
    for check in checks:
        say(check.name)
        try:
            outcome = check.look(subject)
        except VlmDlmError as error:
            outcome = unclear(f"it could not run: {error}")
        yield _finding(check, outcome)


def skip_checks(checks: Sequence[Check[SubjectT]], reason: str) -> Iterator[Finding]:
    """The same table, unanswered."""
    for check in checks:
        yield _finding(check, skipped(reason))


def has_difference(findings: Sequence[Finding]) -> bool:
    """Whether something is not as assumed."""
    return any(finding.verdict == Verdict.DIFFERS for finding in findings)


def _finding(check: Check[SubjectT], outcome: Outcome) -> Finding:
    return Finding(
        check.name, check.assumed, outcome.verdict.value, outcome.evidence, check.setting
    )
