"""The README's Python examples run; those that need a server are run by `tests/e2e`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vlm_dlm import preflight

README = Path(__file__).parents[2] / "README.md"
BLOCKS = [
    block
    for block in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    if "base_url" not in block
]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_block_runs(
    block: str,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(preflight, "embedded_checkpoint", lambda: tiny_checkpoint)
    exec(compile(block, str(README), "exec"), {})
    assert "tokens per forward" in capsys.readouterr().out


def test_there_is_an_example() -> None:
    assert BLOCKS
