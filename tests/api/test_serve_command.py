"""`vlm-dlm serve` before it serves: what is wrong is said in one sentence, and nothing is left."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, after `code`."""
    call = "import sys; from vlm_dlm.cli.main import run; sys.exit(run(sys.argv[1:]))"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VLM_DLM_")}
    return subprocess.run(
        [sys.executable, "-c", f"{code}\n{call}", "serve", *arguments],
        capture_output=True, text=True, timeout=120, cwd=ROOT, env={**kept, **environment},
        check=False,
    )  # fmt: skip


def check_refused(result: subprocess.CompletedProcess[str], sentence: str) -> None:
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert sentence in line


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (("--port", "70000"), {}, "setting port (from the flags) must be at most 65535"),
        ((), {"VLM_DLM_PROT": "1"}, "setting prot (from the environment) is not known here"),
        (("--config", "none.toml"), {}, "the settings file none.toml cannot be read"),
        (("--model", "./none"), {}, "no folder"),
        (("--backend", "vllm"), {}, "vLLM is not installed in this environment; docs/vllm.md says"),
        (
            ("--backend", "vllm"),
            {"VLM_DLM_VLLM_PYTHON": "none/python"},
            "none/python is not an interpreter of Python 3.11 or newer",
        ),
        (("--vllm-url", "gpu:8000"), {}, "setting vllm_url (from the flags) takes an address"),
        (("--host", "not a host"), {"VLM_DLM_ENGINE": "scripted"}, "cannot listen on not a host"),
    ],
)
def test_wrong_settings(
    arguments: tuple[str, ...], environment: dict[str, str], sentence: str
) -> None:
    check_refused(run(*arguments, **environment), sentence)


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        check_refused(run("--port", port, VLM_DLM_ENGINE="scripted"), f"port {port}")


def test_without_the_web_packages_it_says_what_to_install() -> None:
    names = ("fastapi", "uvicorn", "pydantic_settings", "prometheus_client")
    code = f"import sys\nsys.modules.update(dict.fromkeys({names}))"
    check_refused(run(code=code), 'pip install "vlm-dlm[app]"')


@pytest.mark.parametrize("flags", [(), ("--single-process",)])
def test_what_only_loading_finds_ends_the_server_too(flags: tuple[str, ...]) -> None:
    """As it ends every other command; by then the server listens and shows how loading goes."""
    result = run("--port", "0", "--no-page", "--adapter", "./none", *flags)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == "Error: no adapter_config.json in none"
    assert result.stderr.count("no adapter_config.json") == 2  # and in the log
    assert "Not ready" not in result.stderr
    noise = ("torchao", "_pytree")  # what a package imported on the way has to say
    assert not [line for line in result.stderr.splitlines() if any(one in line for one in noise)]
