"""The library works without the packages that only commands and servers need."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
for name in ("typer", "rich", "accelerate", "gradio", "fastapi", "uvicorn", "pydantic_settings",
             "torchao"):
    sys.modules[name] = None
import vlm_dlm, vlm_dlm.engine.core, vlm_dlm.runtime
print([vlm_dlm.Runtime.__name__, *vlm_dlm.MODES])
"""


def test_library_imports_without_extras() -> None:
    out = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    assert "Runtime" in out.stdout
