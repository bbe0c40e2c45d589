"""docs/modes.md repeats figures; here they are compared with the pages that measured them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlm_dlm.decoding import MODES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "modes.md"
SPEEDS = ROOT / "docs" / "performance.md"
CARD = ROOT / "assets" / "embedded" / "README.md"


def table(page: Path, heading: str) -> dict[str, list[str]]:
    """Rows of the first table whose head begins with `heading`, by the name they begin with."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {heading}"))
    rows: dict[str, list[str]] = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows[name.strip("`").partition("`")[0]] = cells
    return rows


@pytest.mark.parametrize("mode", MODES)
def test_measured_figures(mode: str) -> None:
    speed, captions, answers, exact, same = table(PAGE, "Mode | Speed x `ar`")[mode]
    card = table(CARD, "Mode | Exact caption")[mode]
    assert speed == table(SPEEDS, "Decoder | tokens/s")[mode][1]
    assert f"{captions} / {answers}" == card[3]
    assert exact == card[0]
    assert same == ("" if mode == "ar" else card[4])


def test_costs_of_rows() -> None:
    rows = table(SPEEDS, "Rows of one forward")
    (head,) = [
        line
        for line in SPEEDS.read_text(encoding="utf-8").splitlines()
        if line.startswith("| Rows of one forward")
    ]
    ms = dict(zip((cell.strip() for cell in head.split("|")[2:-1]), rows["ms"], strict=True))
    shown = f"1, 32 and 272 rows takes {ms['1']}, {ms['32']} and {ms['272']} ms"
    assert shown in " ".join(PAGE.read_text(encoding="utf-8").split())


def test_defaults() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"`diffusion`, threshold {MODES['diffusion'].Params().threshold}" in text
