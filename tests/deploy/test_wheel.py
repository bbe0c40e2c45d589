"""The wheel: what is in it, and that it runs nothing of the folder it is started in."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"vlm_dlm", "vlm_dlm_app"}
DECOY = """import os, sys
open(os.environ["DECOY_LOG"], "a").write(__file__ + "\\n")
sys.exit("a file of the folder was run")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("*.whl")
    return zipfile.ZipFile(file)


@pytest.fixture(scope="module")
def unpacked(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    wheel.extractall(folder)
    return folder


def test_its_packages_are_ours_alone(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    (metadata,) = [top for top in tops if top.endswith(".dist-info")]
    assert tops == PACKAGES | {metadata}
    entries = wheel.read(f"{metadata}/entry_points.txt").decode()
    assert "vlm-dlm = vlm_dlm.cli.entry:main" in entries


def test_it_holds_all_that_it_needs(wheel: zipfile.ZipFile) -> None:
    held = set(wheel.namelist())
    wanted: dict[str, Path] = {}
    for source, target in (("vlm_dlm", "vlm_dlm"), ("app/vlm_dlm_app", "vlm_dlm_app")):
        wanted |= _files(ROOT / source, target)
    wanted |= _files(ROOT / "assets" / "embedded", "vlm_dlm/_embedded")
    pictures = _files(ROOT / "assets" / "examples", "vlm_dlm_app/_examples")
    wanted |= {name: file for name, file in pictures.items() if file.suffix in (".png", ".jpg")}
    assert any(name.endswith(".safetensors") for name in wanted)
    assert set(wanted) - held == set()
    for name, file in wanted.items():
        assert wheel.getinfo(name).file_size == file.stat().st_size, name


def _files(folder: Path, target: str) -> dict[str, Path]:
    """Name in the wheel -> file, without what Python leaves behind."""
    return {
        f"{target}/{file.relative_to(folder).as_posix()}": file
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_started_anywhere_it_runs_nothing_that_lies_there(unpacked: Path, tmp_path: Path) -> None:
    """Under `python -m` the folder comes first in the search path."""
    modules = {file.stem for package in PACKAGES for file in (unpacked / package).rglob("*.py")}
    folders = {file.parent.name for package in PACKAGES for file in (unpacked / package).rglob("*")}
    names = {"app", "vlm", "settings", "server", "protocol"} | modules | folders
    names -= sys.stdlib_module_names | PACKAGES | {"__init__", "__main__", "__pycache__"}
    for name in names:
        if name.isidentifier():
            (tmp_path / f"{name}.py").write_text(DECOY)
    ran = tmp_path / "ran.txt"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VLM_DLM")}
    environment = {
        **kept,
        "PYTHONPATH": str(unpacked),
        "DECOY_LOG": str(ran),
        "VLM_DLM_ENGINE": "scripted",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "vlm_dlm", "serve", "--port", "0"],
        cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if re.match("The page is at", line):
                process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, "".join(lines)
        assert any(line.startswith("Ready") for line in lines), "".join(lines)
    finally:
        process.kill()
        process.communicate()
    assert not ran.exists(), ran.read_text()
    where = subprocess.run(
        [sys.executable, "-c", "import vlm_dlm, vlm_dlm_app; print(vlm_dlm.__file__)"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(unpacked))
