"""What needs vLLM itself is skipped, with the reason, where that is not installed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

VARIABLE = "VLM_DLM_VLLM_PYTHON"
REMEDY = f"tests/vllm/make_environment.sh FOLDER makes one; then set {VARIABLE}=FOLDER/bin/python"


@pytest.fixture(scope="session")
def vllm_python() -> str:
    """The interpreter of an environment with vLLM and this project."""
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(f"needs an environment with vLLM: {REMEDY}")
    check = "import importlib.util as u, sys; sys.exit(not (u.find_spec('vllm') and u.find_spec('vlm_dlm')))"
    if not Path(python).is_file() or subprocess.run([python, "-c", check], check=False).returncode:
        pytest.skip(f"{python} has no vLLM with this project: {REMEDY}")
    return python
