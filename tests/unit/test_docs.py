"""The pages of documentation: links lead somewhere, all are named by the README, which stays short;
Python examples that need no server run. Those that need one are run by `tests/e2e`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.tables import pages
from tests.newcomer.blocks import MissingError, block, blocks, commands
from vlm_dlm import preflight

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [
    *(README, CONTRIBUTING, ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", ROOT / "tests/README.md"),
    *sorted((ROOT / "docs").glob("*.md")),
]
MAX_README_LINES = 100
EXAMPLES = [
    code
    for page in PAGES
    if page.name != "clients.md"  # tests/clients runs those
    for code in blocks(page, "python")
    if not re.search(r"https?://127|client", code)
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(
        r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", page.read_text(encoding="utf-8")
    ):
        name, anchor = target
        found = page.parent / name if name else page
        assert found.exists(), name
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor[1:] in {slug(heading) for heading in headings}, anchor


def slug(heading: str) -> str:
    """As GitHub makes an anchor of it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_readme_is_short_and_names_every_page() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_README_LINES
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in text


def test_the_tables_are_those_of_the_code() -> None:
    found = pages()
    assert len(found) > 1
    for path, text in found.items():
        assert path.read_text("utf-8") == text, f"{path.name}: run make docs"


def test_our_words_are_in_use_where_the_list_says() -> None:
    rows = re.findall(
        r"^\| .* \| (.*) \| \[.*\]\((.*)\) \|$", CONTRIBUTING.read_text("utf-8"), re.M
    )
    assert len(rows) > 15
    for words, place in rows:
        code = (ROOT / place).read_text("utf-8")
        for name in re.findall(r"`(?:\w+\.)?(\w+)`", words):
            assert re.search(rf"\b{name}\b", code), f"{name} is not in {place}"


def test_the_tests_say_what_every_folder_is() -> None:
    text = (ROOT / "tests/README.md").read_text("utf-8")
    entries = {path.name for path in (ROOT / "tests").iterdir() if path.name[0] not in "_."}
    helpers = {"conftest.py", "README.md"}
    assert {name for name in entries - helpers if f"`{name}`" not in text} == set()
    for command in re.findall(r"`make ([a-z-]+)", text + CONTRIBUTING.read_text("utf-8")):
        assert re.search(rf"^{command}:", (ROOT / "Makefile").read_text("utf-8"), re.M), command


def test_the_pages_show_every_step_that_the_newcomer_takes() -> None:
    """As `tests/newcomer/replay.py` looks for them, which takes minutes."""
    for start in ("make demo", "make compare", "python examples/report.py"):
        assert len(commands(README, start)) == 1
    assert block(README, "sh", "vlm-dlm serve").startswith(". .venv/bin/activate\n")
    assert "http://127.0.0.1:8000" in block(README, "python", "OpenAI(")
    assert "http://127.0.0.1:8000" in block(ROOT / "docs/page.md", "python", "gradio_client")
    assert commands(ROOT / "docs/usage.md", "vlm-dlm ")
    assert commands(ROOT / "docs/deploy.md", "docker compose")
    assert "`docker compose up`" in README.read_text(encoding="utf-8")
    with pytest.raises(MissingError, match="README"):
        commands(README, "make coffee")
    with pytest.raises(MissingError, match="README"):
        block(README, "sh", "make coffee")


@pytest.mark.parametrize("code", EXAMPLES)
def test_python_block_runs(
    code: str,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(preflight, "embedded_checkpoint", lambda: tiny_checkpoint)
    exec(compile(code, "docs", "exec"), {})
    assert "tokens per forward" in capsys.readouterr().out


def test_there_is_an_example() -> None:
    assert EXAMPLES
