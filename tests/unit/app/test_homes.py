"""Rules of the server that have one home: nothing else spells them again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PLACES = ("app/vlm_dlm_app", "vlm_dlm")
# What gives the rule away -> the only files that may hold it.
HOMES = {
    r"\bComparison\(": ["app/vlm_dlm_app/answering/start.py"],
    r"\bpreparing\(services": ["app/vlm_dlm_app/answering/start.py"],
    r"\bfitted\(services": ["app/vlm_dlm_app/answering/start.py"],
    r"\bJudge\(": ["app/vlm_dlm_app/answering/compare_run.py"],
}


@pytest.mark.parametrize("sign", HOMES)
def test_a_rule_has_one_home(sign: str) -> None:
    assert places_of(sign) == HOMES[sign]


def places_of(sign: str) -> list[str]:
    """Files in which code matches, definitions left out."""
    found = re.compile(rf"^(?!.*\b(?:def|class) ).*{sign}", re.MULTILINE)
    files = (path for place in PLACES for path in sorted((ROOT / place).rglob("*.py")))
    return [str(path.relative_to(ROOT)) for path in files if found.search(path.read_text("utf-8"))]
