"""Rules of the server that have one home: nothing else spells them again."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vlm_dlm.decoding import MODES
from vlm_dlm.engine.scripted_engine import Script, ScriptedEngine
from vlm_dlm.request import DEFAULT_MODE, REFERENCE_MODE
from vlm_dlm_app.page.compare import stage_html
from vlm_dlm_app.settings.model import Settings

ROOT = Path(__file__).parents[3]
PLACES = ("app/vlm_dlm_app", "vlm_dlm")
# What gives the rule away -> the only files that may hold it.
HOMES = {
    r"\bComparison\(": ["app/vlm_dlm_app/answering/start.py"],
    r"\bpreparing\(services": ["app/vlm_dlm_app/answering/start.py"],
    r"\bfitted\(services": ["app/vlm_dlm_app/answering/start.py"],
    r"\bJudge\(": ["app/vlm_dlm_app/answering/compare_run.py"],
    # Half for one client.
    r"\b(?:limit|whole|num_workers|max_\w+) // 2\b(?!\*)": ["vlm_dlm/shares.py"],
    # What modes an engine offers.
    r"\bModeInfo\(": ["vlm_dlm/engine/base.py"],
    # Cache that a request may need.
    r"\bnum_prompt \+ \w+ \+ \w+": ["vlm_dlm/answer_room.py"],
    # Giving up on what is lost again and again.
    r"\.max_losses\b": ["vlm_dlm/serving/managed.py"],
    # How much memory there is.
    r"/proc/meminfo|SC_PHYS_PAGES|/sys/fs/cgroup": ["vlm_dlm/memory.py"],
    # What an engine is tried with.
    r"\(84, 112, 3\)": ["vlm_dlm/warm_up.py"],
    # The modes have names, one of them is the reference; `page/about.py` shows a program.
    r"\"ar\"": [
        "app/vlm_dlm_app/page/about.py",
        "vlm_dlm/decoding/autoregressive.py",
        "vlm_dlm/request.py",
        "vlm_dlm/step.py",
    ],
    r"= \"linear_spec\"": ["vlm_dlm/decoding/linear_speculation.py", "vlm_dlm/request.py"],
}


@pytest.mark.parametrize("sign", HOMES)
def test_a_rule_has_one_home(sign: str) -> None:
    assert places_of(sign) == HOMES[sign]


def test_reference_and_default_are_modes() -> None:
    assert {REFERENCE_MODE, DEFAULT_MODE} <= MODES.keys()
    assert MODES[DEFAULT_MODE].is_lossless, "the default says what the reference says"


def test_the_page_is_told_the_reference() -> None:
    """By the server: its scripts spell none."""
    scripts = (ROOT / "app/vlm_dlm_app/page/static").glob("*.js")
    assert not [path.name for path in scripts if re.search("[\"']ar[\"']", path.read_text("utf-8"))]
    services: Any = SimpleNamespace(
        engine=ScriptedEngine(Script(())), settings=Settings(), is_lossless=lambda _: True
    )
    assert f'data-reference="{REFERENCE_MODE}"' in stage_html(services)


def places_of(sign: str) -> list[str]:
    """Files in which code matches, definitions left out."""
    found = re.compile(rf"^(?!.*\b(?:def|class) ).*{sign}", re.MULTILINE)
    files = (path for place in PLACES for path in sorted((ROOT / place).rglob("*.py")))
    return [str(path.relative_to(ROOT)) for path in files if found.search(path.read_text("utf-8"))]
