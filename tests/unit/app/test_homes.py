"""Rules of the server that have one home: nothing else spells them again."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import get_args

import pytest

from vlm_dlm.decoding import MODES
from vlm_dlm.request import DEFAULT_MODE, REFERENCE_MODE
from vlm_dlm_app.page.assets import STATIC, TOLD, script
from vlm_dlm_app.page.record import TIME, TokenRow

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
    # Which variables of the environment are ours.
    r"\"VLM_DLM_\"": ["vlm_dlm/environment.py"],
    # What special tokens and classes are called; `verify` checks them, templates write them.
    r"[\"']<(?:s|unk|\|image_\w+\|)>[\"']|\"NemotronLabs\w+Model\"": [
        "vlm_dlm/checkpoint/default_template.py",
        "vlm_dlm/checkpoint/model_types.py",
        "vlm_dlm/verify/template_checks.py",
        "vlm_dlm/verify/token_checks.py",
    ],
    # How numbers of bytes are told.
    r"\bGB\b.*\bMB\b|(?:1e9|10\*\*9):.*GB": ["vlm_dlm/sizes.py"],
    # How a checkpoint's JSON file is refused.
    r"not hold a JSON object": ["vlm_dlm/checkpoint/json_file.py"],
    # How much memory there is.
    r"/proc/meminfo|SC_PHYS_PAGES|/sys/fs/cgroup": ["vlm_dlm/memory.py"],
    # What an engine is tried with.
    r"\(84, 112, 3\)": ["vlm_dlm/warm_up.py"],
    # Where two answers first differ.
    r"if \w+ != \w+\), ": ["vlm_dlm/report.py"],
    # The modes have names, one of them is the reference; `page/about.py` shows a program.
    r"\"ar\"": [
        "app/vlm_dlm_app/page/about.py",
        "vlm_dlm/decoding/autoregressive.py",
        "vlm_dlm/request.py",
        "vlm_dlm/step.py",
    ],
    r"= \"linear_spec\"": ["vlm_dlm/decoding/linear_speculation.py", "vlm_dlm/request.py"],
}
# Words and numbers that several places need; the table in docs/architecture.md is not about them.
SMALL = {
    r"the engine failed while this": ["vlm_dlm/engine/base.py"],
    r"the deadline passed while the request was w": ["vlm_dlm/serving/queue/service.py"],
    r"there is no such address": ["app/vlm_dlm_app/http/errors.py"],
    r"shutting down and takes": ["app/vlm_dlm_app/http/lifecycle.py"],
    r"images were given; the limit": ["vlm_dlm/preflight.py"],
    r"\bMAX_MODES = ": ["app/vlm_dlm_app/schemas/compare.py"],
}


@pytest.mark.parametrize("sign", HOMES | SMALL)
def test_a_rule_has_one_home(sign: str) -> None:
    assert places_of(sign) == (HOMES | SMALL)[sign]


def test_the_server_says_the_default_mode_by_its_constant() -> None:
    named = [place for place in places_of(DEFAULT_MODE) if place.startswith("app/")]
    assert named == ["app/vlm_dlm_app/settings/fields.py"]  # whose draft adapter it is


def test_reference_and_default_are_modes() -> None:
    assert {REFERENCE_MODE, DEFAULT_MODE} <= MODES.keys()
    assert MODES[DEFAULT_MODE].is_lossless, "the default says what the reference says"


@pytest.mark.parametrize(
    "sign",
    [
        "[\"']ar[\"']",  # the reference, but for what its tokens are called
        "too short",
        "num_tokens < \\d",
    ],
)
def test_the_page_is_told_what_the_server_decides(sign: str) -> None:
    scripts = {path.name: path.read_text("utf-8") for path in STATIC.glob("*.js")}
    assert not [name for name, text in scripts.items() if re.search(sign, text)]


def test_places_in_a_token_row_have_names() -> None:
    scripts = {path.name: path.read_text("utf-8") for path in STATIC.glob("*.js")}
    sign = r"\b(?:row|token|tokens\[[^\]]*\]|Rows\[i\]|get\(element\))\[\d\]"
    assert not [name for name, text in scripts.items() if re.search(sign, text)]
    assert not places_of(r"\btoken(?:s\[[^\]]*\])?\[\d\]")
    places = dict(re.findall(r"^    ([A-Z]+): (\d)", scripts["parts.js"], re.MULTILINE))
    assert list(places.values()) == [str(place) for place in range(len(get_args(TokenRow)))]
    assert int(places["TIME"]) == TIME


@pytest.mark.parametrize(
    ("sign", "home"),
    [(r"createElement\(tag\)", "parts.js"), (r"sorted\.length >> 1|\.sort\(.*a - b", "card.js")],
)
def test_a_helper_of_the_scripts_has_one_home(sign: str, home: str) -> None:
    scripts = {path.name: path.read_text("utf-8") for path in STATIC.glob("*.js")}
    assert [name for name, text in scripts.items() if re.search(sign, text)] == [home]


def test_what_the_page_is_told_comes_first() -> None:
    assert script().startswith(f"window.vlmDlm = {{told: {json.dumps(TOLD)}}};")
    assert TOLD["reference"] == REFERENCE_MODE
    used = set(re.findall(r"\btold\.(\w+)", script())) | {"reference"}
    assert used == TOLD.keys()
    assert "told" not in script("parts", "tokens"), "the report needs nothing of it"


def homes_in_docs() -> list[tuple[str, str]]:
    """(file, symbol) of every row of the table in docs/architecture.md."""
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    table = text.split("## Rules and their homes")[1].split("\n## ")[0]
    found: list[tuple[str, str]] = []
    for row in re.findall(r"^\| (?!Rule|-).* \| (.*) \|$", table, re.MULTILINE):
        for home in row.split("; "):
            file, symbols = home.split(": ")
            found += [(file.strip("`"), symbol.strip("`")) for symbol in symbols.split(", ")]
    return found


@pytest.mark.parametrize(("file", "symbol"), homes_in_docs())
def test_a_home_in_the_docs_holds_what_it_says(file: str, symbol: str) -> None:
    names: set[str] = set()
    for node in ast.parse((ROOT / file).read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    assert symbol in names


def test_the_docs_name_every_home() -> None:
    single = {homes[0] for homes in HOMES.values() if len(homes) == 1}
    assert single <= {file for file, _ in homes_in_docs()}


def places_of(sign: str) -> list[str]:
    """Files in which code matches, definitions left out."""
    found = re.compile(rf"^(?!.*\b(?:def|class) ).*{sign}", re.MULTILINE)
    files = (path for place in PLACES for path in sorted((ROOT / place).rglob("*.py")))
    return [str(path.relative_to(ROOT)) for path in files if found.search(path.read_text("utf-8"))]
