"""Rights that a child process gives up before it reads what is not trusted."""

from __future__ import annotations

import math
import resource
from contextlib import suppress

_STANDARD_STREAMS = 3


def give_up_rights(memory_bytes: int) -> None:
    """No more memory than that as address space, no further files or sockets, nothing written to
    disk. Everything must be imported by now."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_STANDARD_STREAMS, _STANDARD_STREAMS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def prefer_for_killing() -> None:
    """Where memory runs out all the same, the system ends this process rather than one that more
    depends on. To be called before rights are given up."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def limit_memory(num_bytes: int, most: int) -> None:
    """Address space for now; `most` stays the hard limit."""
    resource.setrlimit(resource.RLIMIT_AS, (min(num_bytes, most), most))


def limit_cpu(cpu_s: int) -> None:
    """Processor seconds from now. The limit counts from the start of the process, so each piece of
    work moves it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(usage.ru_utime + usage.ru_stime) + cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
