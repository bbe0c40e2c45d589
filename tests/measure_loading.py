"""Run in a process of its own: how much memory loading a checkpoint takes, as one JSON line.

Arguments: a small checkpoint, the checkpoint to measure, dtype. The small one is loaded first, and
the other's tokenizer is opened: imports, thread pools, allocators and the vocabulary are the
baseline, not growth. The peak is the kernel's high-water mark of resident memory (VmHWM), which
counts file pages that are mapped; it is reset before the load that is measured.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from pathlib import Path

from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.preflight import open_checkpoint
from vlm_dlm.runtime import Runtime

STATUS = Path("/proc/self/status")
RESET_PEAK = "5"  # see proc(5), clear_refs


def status_bytes(name: str) -> int:
    """VmRSS or VmHWM of this process."""
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def main(small: Path, large: Path, dtype: str) -> None:
    limits = EngineConfig(max_cache_tokens=512, max_batched_tokens=256)
    Runtime.load(small, "cpu", dtype, engine_config=limits).close()
    checkpoint = open_checkpoint(large)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # memory that was freed and kept would hide growth
    Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="ascii")
    baseline = status_bytes("VmRSS:")
    start = time.perf_counter()
    runtime = Runtime.load(checkpoint, "cpu", dtype, engine_config=limits)
    seconds = time.perf_counter() - start
    growth = status_bytes("VmHWM:") - baseline
    left = status_bytes("VmRSS:") - baseline
    tensor_bytes = sum(parameter.nbytes for parameter in runtime.model.parameters())
    measured = {"tensor_bytes": tensor_bytes, "growth": growth, "left": left, "seconds": seconds}
    sys.stdout.write(json.dumps(measured) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
