"""The Dockerfile: clean, pinned, and in step with the project's own files."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version

from packaging.requirements import Requirement

from tests.deploy.tools import ROOT, find_tool, run

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PINS = dict(
    re.findall(
        r"^([a-z0-9.-]+)==(\S+)",
        (ROOT / "deploy" / "requirements.txt").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
)


def test_linter_finds_nothing() -> None:
    assert run(find_tool("hadolint"), "Dockerfile") == ""


def test_base_is_pinned_and_the_user_is_not_root() -> None:
    assert re.search(r"^ARG PYTHON=python:3\.11\.\d+-\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.M)
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)) == {"${PYTHON}"}
    assert re.findall(r"^USER (\S+)", DOCKERFILE, re.M) == ["10001:10001"]


def test_torch_is_that_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    wanted = re.search(r"^TORCH \?= (\S+)$", makefile, re.M)
    assert wanted is not None
    assert f"ARG TORCH={wanted[1]}\n" in DOCKERFILE


def test_pinned_packages_are_all_that_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["app"], *extras["quantize"]]:
        needed = Requirement(text)
        if needed.name != "torch":
            name = re.sub(r"[-_.]+", "-", needed.name).lower()
            assert needed.specifier.contains(PINS[name]), text


def test_what_is_copied_is_sent_to_the_build_and_nothing_else() -> None:
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M)
    copied = {source for line in lines for source in line.split()}
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    assert set(re.findall(r"^!(.+)$", ignore, re.M)) == copied
    assert all((ROOT / source).exists() for source in copied)


def test_compose_names_this_version() -> None:
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"image: vlm-dlm:([0-9.]+)-", compose)) == {version("vlm-dlm")}
