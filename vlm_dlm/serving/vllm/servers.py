"""Where vLLM runs: in a child of ours, or somewhere else that we only know the address of."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vlm_dlm.environment import without_settings
from vlm_dlm.serving.vllm.client import VllmClient
from vlm_dlm.serving.vllm.installation import Installation

logger = logging.getLogger(__name__)
NUM_KEPT_LINES = 40
TERM_S, KILL_S = 10.0, 5.0
LOCAL_URL = "http://vllm"  # only the Unix socket counts
# Nothing is fetched and nothing is told to anybody; what is set already stays as it is.
QUIET = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
CPU_CACHE = {"VLLM_CPU_KVCACHE_SPACE": "2"}  # GiB, for all answers together
# Sees to it that the process ends when we do, however that happens, and becomes vLLM. The script
# `vllm` does not work in every build; the module of the server does.
_LAUNCHER = (
    "import ctypes, os, signal, sys\n"
    "sys.platform == 'linux' and ctypes.CDLL(None).prctl(1, signal.SIGTERM)\n"
    "os.getppid() == int(sys.argv[1]) or sys.exit(1)\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])\n"
)
_MODULE = "vllm.entrypoints.openai.api_server"


class VllmServer(ABC):
    """One vLLM server.

    name: for the log; clients are not told addresses.
    client: None while there is none to ask.
    is_ours: whether it can be ended and started again from here.
    device, dtype: as far as known.
    """

    name: str = "vLLM"
    client: VllmClient | None = None
    is_ours: bool = False
    device: str = ""
    dtype: str = ""

    @abstractmethod
    def start(self) -> None:
        """Bring it up, or begin to look for it. Raises OSError where a child cannot be made."""

    @property
    @abstractmethod
    def ending(self) -> str | None:
        """How it ended; None while it runs, or where that cannot be known."""

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines it wrote."""
        return ()

    @abstractmethod
    async def stop(self) -> None:
        """End what `start` began. Safe to call twice."""


class RemoteServer(VllmServer):
    """One that somebody else runs."""

    device, dtype = "remote", "unknown"

    def __init__(self, url: str, key: str | None, model: str | None) -> None:
        self.name = f"vLLM at {url}"
        self._url, self._key, self._model = url, key, model

    def start(self) -> None:
        self.client = VllmClient(self._url, key=self._key, model=self._model)

    @property
    def ending(self) -> str | None:
        return None

    async def stop(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            await client.close()


@dataclass(frozen=True, slots=True)
class ChildLaunch:
    """What a child is to serve.

    extra: further arguments of vLLM's own.
    """

    installation: Installation
    model: Path
    dtype: str
    max_running: int
    extra: tuple[str, ...] = ()

    def arguments(self, socket: str) -> list[str]:
        return [
            *("-m", _MODULE),
            *("--model", str(self.model)),
            *("--served-model-name", "vlm-dlm"),
            *("--uds", socket),
            *("--dtype", self.dtype),
            *("--max-num-seqs", str(self.max_running)),
            "--enable-scale-out",
            "--enable-prompt-tokens-details",
            "--disable-uvicorn-access-log",
            # compiling takes longer than it saves on a CPU
            *(("--enforce-eager",) if self.installation.is_cpu else ()),
            *self.extra,
        ]


class ChildServer(VllmServer):
    """A child that listens on a Unix socket in a folder that only we can enter. term_s: what it
    gets to end by itself, which one that hangs never does."""

    is_ours = True

    def __init__(self, launch: ChildLaunch, term_s: float = TERM_S) -> None:
        self._term_s = term_s
        self.device = "vLLM, cpu" if launch.installation.is_cpu else "vLLM, cuda"
        self.dtype = launch.dtype
        self._launch = launch
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: str | None = None
        self._lines: deque[str] = deque(maxlen=NUM_KEPT_LINES)

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def last_lines(self) -> tuple[str, ...]:
        return tuple(self._lines)

    def start(self) -> None:
        self._lines.clear()
        self._folder = tempfile.mkdtemp(prefix="vlm-dlm-")
        socket = str(Path(self._folder, "vllm.sock"))
        kept = without_settings()
        kept.pop("PYTHONPATH", None)  # it is another environment's
        cache = CPU_CACHE if self._launch.installation.is_cpu else {}
        self._process = subprocess.Popen(
            [
                *(self._launch.installation.python, "-P", "-c", _LAUNCHER, str(os.getpid())),
                *self._launch.arguments(socket),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**QUIET, **cache, **kept},
            start_new_session=True,  # signals at the terminal are for the server alone
        )
        assert self._process.stdout is not None
        reading = (self._process.stdout,)
        threading.Thread(target=self._read, args=reading, name="vllm-log", daemon=True).start()
        self.client = VllmClient(LOCAL_URL, socket=socket, model="vlm-dlm")

    @property
    def ending(self) -> str | None:
        code = None if self._process is None else self._process.poll()
        if code is None:
            return None
        return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

    async def stop(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            await client.close()
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(_end, process, self._term_s)
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                text = line.decode("utf-8", "replace").rstrip()
                self._lines.append(text)
                logger.debug("vLLM: %s", text)


def _end(process: subprocess.Popen[bytes], term_s: float) -> None:
    """It and what it started."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(term_s)
    with suppress(ProcessLookupError, PermissionError):  # its own children, if they outlived it
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(KILL_S)
