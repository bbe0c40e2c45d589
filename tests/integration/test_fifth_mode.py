"""A mode says what it can be told; commands, bodies and their documentation follow from that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vlm_dlm.decoding import MODES
from vlm_dlm.decoding.options import ModeOption, block_length, option_table, threshold
from vlm_dlm.errors import ModeError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found() -> Any:
    """What is said where a fifth mode was registered, in a process of its own."""
    command = [sys.executable, "-m", "tests.integration.fifth_mode"]
    wide = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, cwd=ROOT, env=wide, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def properties(schema: Any, name: str) -> list[Any]:
    """All properties of this name, wherever they are."""
    if isinstance(schema, list):
        return [one for part in schema for one in properties(part, name)]
    if not isinstance(schema, dict):
        return []
    own = [schema["properties"][name]] if name in schema.get("properties", {}) else []
    return own + [one for part in schema.values() for one in properties(part, name)]


@pytest.mark.parametrize("command", ["generate", "compare"])
def test_commands_have_its_option(found: Any, command: str) -> None:
    (line,) = [line for line in found[command].splitlines() if "--warmth" in line]
    assert " W " in line
    assert "How warm it is." in line


def test_generate_names_it_and_checks_its_range(found: Any) -> None:
    assert "quadratic_spec or fifth." in " ".join(found["generate"].split())
    assert "mode fifth takes a warmth of 2 to 9, not 12" in found["typed 12"]
    assert "nowhere.png" in found["typed 5"], "the option was right, the image is looked for next"


def test_requests_have_its_option(found: Any) -> None:
    whole = {"type": "integer", "minimum": 2, "maximum": 9}
    for path in ("/v1/chat/completions", "/v1/generate", "/v1/compare"):
        described = properties(found["openapi"]["paths"][path]["post"], "warmth")
        assert described
        assert all(one["anyOf"][0] == whole for one in described)
    assert found["params"] == 7


def test_the_page_of_fields_has_its_option(found: Any) -> None:
    assert "`warmth`, `own_warmth`" in found["fields"]


def components(found: Any, label: str) -> list[Any]:
    """Parts of the page with this label."""
    parts = ((one["type"], one["props"]) for one in found["config"]["components"])
    return [(kind, its) for kind, its in parts if its.get("label") == label]


def dependency(found: Any, name: str) -> Any:
    return next(one for one in found["config"]["dependencies"] if one["api_name"] == name)


def test_the_page_has_a_control_for_its_option(found: Any) -> None:
    ((kind, its),) = components(found, "Warmth")
    assert kind == "slider"
    # Its lowest place is no value: there each mode takes its own.
    assert (its["minimum"], its["value"], its["maximum"], its["step"]) == (1, 1, 9, 1)
    assert its["info"] == "How warm it is; 1 takes what suits each mode"
    (number,) = [c["id"] for c in found["config"]["components"] if c["props"] is its]
    for name in ("ask", "again", "start_round"):
        assert dependency(found, name)["inputs"][-1] == number
    assert dependency(found, "apply_best")["outputs"][-1] == number


def test_the_scripts_of_the_page_know_its_option(found: Any) -> None:
    told = json.loads(found["script"].split("told: ")[1].split("};\n")[0])
    assert told["controls"][-1] == {"name": "warmth", "rest": 1, "isFlag": False}
    assert told["options"][-1] == "warmth"
    links = [one["js"] for one in found["config"]["dependencies"] if "settings([" in str(one["js"])]
    assert ['"name": "warmth", "kind": "number", "min": 1, "max": 9' in js for js in links] == [
        True
    ]


def test_its_option_is_an_axis_of_the_sweep(found: Any) -> None:
    ((kind, its),) = components(found, "Warmths")
    assert kind == "checkboxgroup"
    assert its["value"] == ["2", "4", "7", "9"]
    assert not its["visible"], "the mode that is chosen at first has no such option"
    (table,) = [its["headers"] for _, its in components(found, "All combinations")]
    assert table[1:4] == ["Threshold", "Block", "Warmth"]
    assert [point["warmth"] for point in found["usual"]["points"]] == [2, 4, 7, 9]


def test_programs_can_sweep_it(found: Any) -> None:
    points = found["chosen"]["points"]
    assert [(one["warmth"], one["threshold"]) for one in points] == [(2, None), (5, None)]
    assert found["chosen"]["left_out"] == "Left out: warmth 12, which A fifth cannot do."
    about = found["info"]["/sweep"]["description"]
    assert about.endswith("per combination of threshold, block length and warmth.")
    assert found["tool_options"] is None or found["tool_options"]["warmth"] == "How warm it is."


def test_an_option_that_modes_share_has_the_widest_range() -> None:
    several = [(threshold(), block_length(2, 8)), (block_length(1, 4), threshold(can_be_none=True))]
    table = option_table(several)
    assert list(table) == ["threshold", "block_length"]
    assert (table["block_length"].low, table["block_length"].high) == (1, 8)
    assert table["threshold"].can_be_none


def test_two_options_of_one_name_are_one_option() -> None:
    other = ModeOption("threshold", int, "Another.", request_names=("threshold",))
    with pytest.raises(ValueError, match="two options are called threshold"):
        option_table([(threshold(),), (other,)])


def test_only_what_can_be_none_is() -> None:
    threshold(can_be_none=True).check("x", None)
    with pytest.raises(ModeError, match="mode x takes a threshold of 0 to 1, not none"):
        threshold().check("x", None)


@pytest.mark.parametrize("mode", MODES)
def test_every_option_is_a_field_of_its_params_and_has_a_default(mode: str) -> None:
    params = MODES[mode].Params()
    for option in MODES[mode].options:
        default = getattr(params, option.name)
        assert isinstance(option, ModeOption)
        assert isinstance(default, option.kind) or (default is None and option.can_be_none)


@pytest.mark.parametrize("mode", MODES)
def test_the_readme_says_how_it_writes(mode: str) -> None:
    row = f"| `{mode}` | {MODES[mode].summary} |"
    assert row in (ROOT / "README.md").read_text(encoding="utf-8")
