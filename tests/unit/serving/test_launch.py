"""What is sent to an engine process, and what is known without one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vlm_dlm.decoding import MODES
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.scripted_engine import Script, ScriptedEngine
from vlm_dlm.errors import CheckpointError
from vlm_dlm.serving.launch import Launch, read_capabilities

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "launch",
    [
        Launch(),
        Launch("some/model", "cpu", "float32", "adapter", EngineConfig(max_running=3)),
        Launch(engine="scripted", script=Script(("a ", "b"), 0.5, True, 3, 2)),
    ],
    ids=["default", "everything", "scripted"],
)
def test_a_launch_survives_json(launch: Launch) -> None:
    assert Launch.from_dict(json.loads(json.dumps(launch.to_dict()))) == launch


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="choose torch, scripted"):
        Launch(engine="steam")


def test_capabilities_are_known_before_loading() -> None:
    scripted = Launch(engine="scripted", script=Script(max_running=5))
    assert read_capabilities(scripted) == ScriptedEngine(scripted.script).capabilities
    embedded = read_capabilities(Launch(limits=EngineConfig(max_context=99, max_running=4)))
    assert [mode.name for mode in embedded.modes] == list(MODES)
    assert (embedded.max_context, embedded.max_running) == (99, 4)
    assert read_capabilities(Launch()).max_context >= 1024
    odd = read_capabilities(Launch(limits=EngineConfig(page_size=10, max_cache_tokens=1234)))
    assert (odd.max_cache_tokens, odd.page_size) == (1230, 10)


def test_a_missing_checkpoint_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        read_capabilities(Launch(str(tmp_path)))


def test_the_serving_side_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "import vlm_dlm.serving.local_engine, vlm_dlm.serving.process.engine\n"
        "import vlm_dlm.serving.pictures.preparation, vlm_dlm.serving.queue.service\n"
        "from vlm_dlm.serving.launch import Launch, read_capabilities\n"
        "read_capabilities(Launch())\n"
        "sys.exit(', '.join({'torch', 'transformers', 'accelerate'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
