"""What needs vLLM itself is skipped, with the reason, where that is not installed."""

from __future__ import annotations

import os

import pytest

from vlm_dlm.errors import BadInputError
from vlm_dlm.serving.vllm.installation import find_vllm

VARIABLE = "VLM_DLM_VLLM_PYTHON"
REMEDY = f"tests/vllm/make_environment.sh FOLDER makes one; then set {VARIABLE}=FOLDER/bin/python"


@pytest.fixture(scope="session")
def vllm_python() -> str:
    """The interpreter of an environment with vLLM and this project."""
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(f"needs an environment with vLLM: {REMEDY}")
    try:
        find_vllm(python)
    except BadInputError as error:
        pytest.skip(f"{error}: {REMEDY}")
    return python
