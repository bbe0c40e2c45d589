"""Whatever happens inside a command, a person sees one line and the right exit code."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import vlm_dlm
from vlm_dlm.cli import main as cli
from vlm_dlm.errors import EngineError, ImageError


def fail_with(error: BaseException) -> Callable[..., None]:
    def command(*_: object, **__: object) -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ImageError("'a.png' is\nempty"), 2, "Error: 'a.png' is empty\n"),
        (EngineError("it broke"), 1, "Error: it broke\n"),
        (
            ZeroDivisionError("division by zero"),
            1,
            "Error: internal error (ZeroDivisionError: division by zero); "
            "VLM_DLM_DEBUG=1 shows more\n",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_failures(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv(cli.DEBUG_VARIABLE, raising=False)
    monkeypatch.setattr("vlm_dlm.cli.doctor.find_subject", fail_with(error))
    assert cli.run(["doctor"]) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", line)


def test_debug_variable_adds_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(cli.DEBUG_VARIABLE, "1")
    monkeypatch.setattr("vlm_dlm.cli.doctor.find_subject", fail_with(ImageError("empty")))
    assert cli.run(["doctor"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["nothing"], ["generate", "--nothing"], ["generate", "--max-tokens", "x"], ["train"]],
)
def test_usage_errors_are_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ")
    assert captured.err.count("\n") == 1


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"vlm-dlm {vlm_dlm.__version__}\n"


@pytest.mark.parametrize("command", ["generate", "compare", "train", "eval", "doctor"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([command, "--help"]) == 0
    assert "Usage:" in capsys.readouterr().out
