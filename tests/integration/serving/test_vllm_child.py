"""The process that vLLM runs in: found, started, lost, started again, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.integration.serving.vllm_stand_in import is_alive, make_interpreter, notes_of
from vlm_dlm.errors import BadInputError
from vlm_dlm.events import Failed
from vlm_dlm.preflight import Checkpoint, open_checkpoint
from vlm_dlm.request import GenerationRequest, PromptInput
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm.serving.vllm.client import PROBE_TEXT, STOPPED
from vlm_dlm.serving.vllm.engine import UNSTARTABLE, Pace, VllmEngine
from vlm_dlm.serving.vllm.installation import find_vllm
from vlm_dlm.serving.vllm.servers import ChildLaunch, ChildServer

PACE = Pace(soon_s=0.02, poll_s=0.05, health_s=0.3, max_ailments=2)
PATIENCE_S = 20.0
Test = Callable[[VllmEngine, ChildServer], Awaitable[None]]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint()


@pytest.fixture(scope="module")
def python(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    probe = checkpoint.processor.tokenizer.encode_text(PROBE_TEXT)
    return make_interpreter(tmp_path_factory.mktemp("vllm"), probe)


def run(python: Path, checkpoint: Checkpoint, test: Test, *extra: str) -> None:
    async def running() -> None:
        launch = ChildLaunch(find_vllm(str(python)), checkpoint.folder, "float32", 5, extra)
        server = ChildServer(launch, term_s=0.5)
        engine = VllmEngine(server, checkpoint, pace=PACE)
        await engine.start()
        try:
            await test(engine, server)
        finally:
            await engine.close()

    asyncio.run(running())


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_true():
            await asyncio.sleep(0.01)


def test_an_installation_is_found(python: Path) -> None:
    found = find_vllm(str(python))
    assert (found.python, found.version, found.is_cpu) == (str(python), "0.32.0", True)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    none = make_interpreter(tmp_path / "none", [], has_vllm=False)
    with pytest.raises(BadInputError, match=r"vLLM is not installed in .*; docs/vllm.md"):
        find_vllm(str(none))
    plain = make_interpreter(tmp_path / "plain", [], has_plugin=False)
    with pytest.raises(BadInputError, match="has no plugin of this project; install vlm-dlm"):
        find_vllm(str(plain))
    for path in (tmp_path / "nowhere", tmp_path, Path("/bin/true")):
        with pytest.raises(BadInputError, match="is not an interpreter of Python"):
            find_vllm(str(path))


def test_it_is_started_with_what_it_needs_and_leaves_nothing(
    python: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLM_DLM_API_KEYS", "secret")
    seen: list[object] = []

    async def test(engine: VllmEngine, server: ChildServer) -> None:
        await asyncio.wait_for(engine.wait_ready(), PATIENCE_S)
        assert (engine.state.device, engine.state.dtype) == ("vLLM, cpu", "float32")
        notes = notes_of(python)
        arguments, environment = notes["argv"], notes["environment"]
        assert isinstance(arguments, list)
        assert isinstance(environment, dict)
        given = dict(pairwise(arguments))
        assert given["--model"] == str(checkpoint.folder)
        assert (given["--dtype"], given["--max-num-seqs"]) == ("float32", "5")
        assert {"--enable-scale-out", "--enforce-eager"} <= set(arguments)
        assert (environment["HF_HUB_OFFLINE"], environment["VLLM_NO_USAGE_STATS"]) == ("1", "1")
        assert "VLM_DLM_API_KEYS" not in environment
        folder = Path(given["--uds"]).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert is_alive(notes["helper"])
        seen.extend((server.pid, notes["helper"], folder))

    run(python, checkpoint, test)
    pid, helper, folder = seen
    assert not is_alive(pid)
    assert not is_alive(helper)
    assert isinstance(folder, Path)
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_child_that_is_lost_is_started_again(
    python: Path, checkpoint: Checkpoint, number: signal.Signals
) -> None:
    async def test(engine: VllmEngine, server: ChildServer) -> None:
        await asyncio.wait_for(engine.wait_ready(), PATIENCE_S)
        pid, helper = server.pid, notes_of(python)["helper"]
        assert pid is not None
        stream = engine.generate(GenerationRequest("one", PromptInput((10, 1500, 11))))
        events = [await anext(stream) for _ in range(3)]
        os.kill(pid, number)
        events += [event async for event in stream]
        assert isinstance(events[-1], Failed)
        assert events[-1].message == STOPPED
        await until(lambda: engine.state.num_restarts == 1)
        await asyncio.wait_for(engine.wait_ready(), PATIENCE_S)
        assert server.pid != pid
        assert not is_alive(pid)
        assert not is_alive(helper)

    run(python, checkpoint, test)


def test_a_child_that_never_comes_up_is_given_up(
    python: Path, checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(engine: VllmEngine, server: ChildServer) -> None:
        await until(lambda: engine.state.phase is Phase.DOWN)
        assert engine.state.reason == UNSTARTABLE

    run(python, checkpoint, test, "--play", "crash")
    assert "exit code 3" in caplog.text
    assert "its last words" in caplog.text


def test_a_child_that_serves_something_else_is_given_up(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    async def test(engine: VllmEngine, server: ChildServer) -> None:
        await until(lambda: engine.state.phase is Phase.DOWN)
        assert engine.state.reason == "vLLM serves another model: its tokenizer gives other ids"
        await until(lambda: server.pid is None)

    run(make_interpreter(tmp_path / "other", [1, 2]), checkpoint, test)


def test_a_child_does_not_outlive_us(python: Path, tmp_path: Path) -> None:
    """However we end: no handler of ours runs here."""
    code = f"""
import os, time
from pathlib import Path
from vlm_dlm.serving.vllm.installation import Installation
from vlm_dlm.serving.vllm.servers import ChildLaunch, ChildServer
server = ChildServer(
    ChildLaunch(Installation({str(python)!r}, "", True), Path("model"), "float32", 1)
)
server.start()
while not Path(server._folder, "vllm.sock").exists():
    time.sleep(0.01)
print(server.pid, flush=True)
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    async def gone() -> None:
        await until(lambda: not is_alive(int(done.stdout)))

    asyncio.run(gone())
    helper = notes_of(python)["helper"]
    assert isinstance(helper, int)
    if is_alive(helper):  # the stand-in does not end its own, as vLLM does
        os.kill(helper, signal.SIGKILL)
