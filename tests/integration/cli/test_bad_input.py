"""Bad input ends with one line on stderr, exit code 2, and without waiting for torch."""

from __future__ import annotations

import functools
import os
import resource
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from struct import pack

import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

SLOW = {"torch", "transformers", "gradio", "fastapi"}  # seconds each
IMPORTED = "import time:"  # begins a line of Python's own report
Case = Callable[[Path, Path, Path], list[str]]


def cpu_s_of(command: list[str], **settings: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Processor time of a child in seconds, unlike a clock blind to load, and how it ended."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **settings},
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, out


@functools.cache
def torch_cpu_s() -> float:
    """What importing PyTorch takes here: about 4 s where a refusal takes 1."""
    cpu_s, out = cpu_s_of(["-c", "import torch"])
    assert out.returncode == 0, out.stderr
    return cpu_s


def png_bomb(side: int) -> bytes:
    """A small PNG that decodes to side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return pack(">I", len(data)) + body + pack(">I", zlib.crc32(body))

    header = pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(side * ((side + 7) // 8 + 1)), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def written(path: Path, data: bytes) -> list[str]:
    path.write_bytes(data)
    return ["--image", str(path)]


def adapter(tmp: Path) -> str:
    (tmp / "adapter_config.json").write_text("{}")
    return str(tmp)


def without_one_tensor(tmp: Path, checkpoint: Path) -> list[str]:
    folder = tmp / "incomplete"
    shutil.copytree(checkpoint, folder)
    with safe_open(folder / "model.safetensors", framework="pt") as stored:
        tensors = {name: stored.get_tensor(name).float().numpy() for name in stored.keys()}  # noqa: SIM118
    del tensors["encoder.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors")
    return ["--model", str(folder)]


CASES: dict[str, tuple[str, Case]] = {
    "no such image": ("'no.png' does not exist", lambda t, s, c: ["--image", str(t / "no.png")]),
    "no image": ("not in a supported format", lambda t, s, c: written(t / "a.txt", b"hello")),
    "an empty path": ("the path of an image is empty", lambda t, s, c: ["--image", ""]),
    "a folder": ("is a folder", lambda t, s, c: ["--image", str(t)]),
    "cut short": (
        "damaged or cut short",
        lambda t, s, c: written(t / "a.png", s.read_bytes()[:-400]),
    ),
    "a bomb": (
        "13000 x 13000 = 169000000 pixels; the limit is 40000000",
        lambda t, s, c: written(t / "bomb.png", png_bomb(13000)),
    ),
    "an adapter nobody uses": (
        "none of the modes ar drafts with an adapter",
        lambda t, s, c: ["--mode", "ar", "--adapter", adapter(t)],
    ),
    "no checkpoint": ("no folder", lambda t, s, c: ["--model", str(t / "none")]),
    "one tensor gone": (
        "1 missing (encoder.layers.1.mlp.up_proj.weight)",
        lambda t, s, c: without_one_tensor(t, c),
    ),
    "unknown mode": (
        "unknown mode 'fast'; the modes are ar, diffusion, linear_spec, quadratic_spec",
        lambda t, s, c: ["--mode", "fast"],
    ),
    "block length": (
        "mode quadratic_spec runs block lengths 2 to 32, not 64",
        lambda t, s, c: ["--mode", "quadratic_spec", "--block-length", "64"],
    ),
    "option of another mode": (
        "mode ar has no option threshold",
        lambda t, s, c: ["--mode", "ar", "--threshold", "0.5"],
    ),
    "threshold in words": (
        "threshold is 'high'; it must be 0 to 1, or none",
        lambda t, s, c: ["--mode", "diffusion", "--threshold", "high"],
    ),
    "threshold": (
        "takes a threshold of 0 to 1, not 1.5",
        lambda t, s, c: ["--mode", "diffusion", "--threshold", "1.5"],
    ),
    "prompt too long": (
        "maximum context length is 512 tokens",
        lambda t, s, c: ["--prompt", "many words " * 500],
    ),
    "answer too long": (
        "maximum context length is 512 tokens",
        lambda t, s, c: ["--max-tokens", "600"],
    ),
    "temperature": ("temperature is -1.0", lambda t, s, c: ["--temperature", "-1"]),
    "dtype": ("unknown dtype 'int8'", lambda t, s, c: ["--dtype", "int8"]),
    "no number": ("--max-tokens", lambda t, s, c: ["--max-tokens", "many"]),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line_and_exit_code_2(
    name: str, tmp_path: Path, scene_file: Path, tiny_checkpoint: Path
) -> None:
    expected, make_arguments = CASES[name]
    arguments = make_arguments(tmp_path, scene_file, tiny_checkpoint)
    for option, value in (("--image", scene_file), ("--model", tiny_checkpoint)):
        if option not in arguments:
            arguments += [option, str(value)]
    assert_refused(["generate", *arguments, "--json"], expected)


TRAIN_CASES: dict[str, tuple[str, Callable[[Path], list[str]]]] = {
    "a folder that cannot be made": (
        "cannot be made: Not a directory",
        lambda t: ["--out", str(Path(written(t / "file", b"")[1]) / "out")],
    ),
    "a start that is none": (
        "no config.json in",
        lambda t: ["--out", str(t / "out"), "--start", str(t)],
    ),
    "nothing to resume": (
        "no state to resume from",
        lambda t: ["--out", str(t / "out"), "--resume"],
    ),
    "vision share": (
        "vision-share is 2; it must lie in 0 to 1",
        lambda t: ["--out", str(t / "out"), "--vision-share", "2"],
    ),
}


@pytest.mark.parametrize("name", TRAIN_CASES)
def test_training_is_refused_before_it_loads_anything(name: str, tmp_path: Path) -> None:
    expected, make_arguments = TRAIN_CASES[name]
    assert_refused(["train", *make_arguments(tmp_path)], expected)
    assert not (tmp_path / "out").exists()


FETCH_CASES = {
    "no Hub id": ("is no Hub id", ["fetch", "../x"]),
    "a Hub that is not to be asked": ("unset HF_HUB_OFFLINE", ["fetch", "a/b"]),
    "an unknown one": ("unset HF_HUB_OFFLINE", ["doctor", "--model", "a/b", "--json"]),
    "a folder that is none": ("no folder", ["doctor", "--model", "/no/such/folder"]),
}


@pytest.mark.parametrize("name", FETCH_CASES)
def test_fetching_and_diagnosis_are_refused_as_fast(name: str) -> None:
    expected, arguments = FETCH_CASES[name]
    assert_refused(arguments, expected)


def assert_refused(arguments: list[str], expected: str) -> None:
    """One line on stderr, nothing on stdout, exit code 2, and no time for torch."""
    cpu_s, out = cpu_s_of(["-m", "vlm_dlm", *arguments], PYTHONPROFILEIMPORTTIME="1")
    lines = out.stderr.splitlines()
    told = [line for line in lines if not line.startswith(IMPORTED)]
    assert out.returncode == 2, told
    assert out.stdout == ""
    assert len(told) == 1, told
    assert told[0].startswith("Error: ")
    assert expected in told[0]
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith(IMPORTED)}
    assert "vlm_dlm" in imported
    assert not imported & SLOW
    assert cpu_s < torch_cpu_s()
