"""What somebody gets who clones the project: the tracked files, and an empty home."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Of the environment a newcomer has none of these; PIP_* and proxies belong to the machine.
OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "BROWSER")
UNTRACKED = shutil.ignore_patterns(
    ".git", ".venv", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis", "build", "dist", "runs"
)


def make_copy(folder: Path) -> str:
    """Copy the tracked files as they are now, or without git all but what git would leave out.
    Returns which."""
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "ls-files", "-z"]
    try:
        listed = subprocess.run(git, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        shutil.copytree(ROOT, folder, ignore=UNTRACKED)
        return "all files, as git is not at hand"
    names = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return f"{len(names)} tracked files"


def environment(folder: Path, browser_log: Path, port: int) -> dict[str, str]:
    """Variables for everything that runs in the copy: an empty home, no environment of ours on the
    path, a browser that only writes down what it is to open. pip keeps its cache."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in OURS and not name.startswith(("VLM_DLM_", "GRADIO_", "HF_", "XDG_"))
    }
    home = folder.parent / "home"
    home.mkdir()
    browser = folder.parent / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> "{browser_log}"\n')
    browser.chmod(0o755)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return {
        "PIP_CACHE_DIR": f"{cache}/pip",
        **kept,
        "PATH": _path(kept.get("PATH", os.defpath).split(os.pathsep)),
        "HOME": str(home),
        "BROWSER": f"{browser} %s",
        "VLM_DLM_PORT": str(port),
    }


def _path(folders: Iterable[str]) -> str:
    """Without virtual environments."""
    return os.pathsep.join(
        folder for folder in folders if not (Path(folder).parent / "pyvenv.cfg").exists()
    )


def free_port() -> int:
    """One that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
