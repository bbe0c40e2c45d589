"""What a fault showed, and ways to look at a server while it happens."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from tests.e2e.client import Connection, Head
from tests.e2e.processes import cpu_s
from tests.e2e.server import Server, parse_metrics, total

GAUGES = (
    "num_requests_running",
    "num_requests_waiting",
    "num_requests_preparing",
    "num_waiting_prompt_tokens",
)
SAMPLE_S = 0.005
BUSY_SHARE = 0.2  # of one processor, over one sample: below it a process only keeps itself alive


@dataclass(slots=True)
class Check:
    """One claim. faults: what spoke against it, as sentences; none means that it held."""

    name: str
    faults: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def is_passed(self) -> bool:
        return not self.faults

    def expect(self, is_true: bool, fault: str) -> None:
        """Note `fault` unless `is_true`."""
        if not is_true:
            self.faults.append(fault)


class Watcher:
    """Reads /metrics and the health routes over one connection, opened anew when it was idle for
    so long that the server has closed it. A context manager."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: Connection | None = None

    async def __aenter__(self) -> Watcher:
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._connection is not None:
            await self._connection.leave()

    async def get(self, path: str) -> tuple[Head, bytes]:
        """Raises OSError or EOFError once the server is gone."""
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        if self._connection is not None:
            with suppress(OSError, EOFError):
                return await _get(self._connection, request)
            await self._connection.leave()
        self._connection = await Connection.open(self._server.host, self._server.port)
        return await _get(self._connection, request)

    async def metrics(self) -> dict[str, float]:
        """All samples by name and labels."""
        _, body = await self.get("/metrics")
        return parse_metrics(body.decode())

    async def value(self, name: str) -> float:
        """One metric without its prefix, summed over all labels."""
        return total(await self.metrics(), name)

    async def is_ready(self) -> bool:
        """What /health/ready says."""
        head, _ = await self.get("/health/ready")
        return head.status == 200

    async def until(
        self, is_so: Callable[[dict[str, float]], bool], timeout_s: float, pause_s: float = 0.005
    ) -> float:
        """Seconds until the metrics are so. Raises TimeoutError."""
        began_s = perf_counter()
        while not is_so(await self.metrics()):
            if perf_counter() - began_s > timeout_s:
                raise TimeoutError(f"the metrics were not as wanted within {timeout_s:g} s")
            await asyncio.sleep(pause_s)
        return perf_counter() - began_s

    async def until_ready(self, timeout_s: float) -> float:
        """Seconds until it is ready. Raises TimeoutError."""
        began_s = perf_counter()
        while not await self.is_ready():
            if perf_counter() - began_s > timeout_s:
                raise TimeoutError(f"the server was not ready within {timeout_s:g} s")
            await asyncio.sleep(0.02)
        return perf_counter() - began_s

    async def idle(self, timeout_s: float) -> float | None:
        """Seconds until every gauge is zero, None if that took longer."""
        try:
            return await self.until(is_idle, timeout_s)
        except TimeoutError:
            return None


async def _get(connection: Connection, request: bytes) -> tuple[Head, bytes]:
    await connection.send(request)
    head = await connection.head()
    return head, await connection.body(head)


def is_idle(metrics: dict[str, float]) -> bool:
    """Whether every gauge of requests is at zero."""
    return not any(total(metrics, name) for name in GAUGES)


async def work_s(pids: Sequence[int], watch_s: float) -> float:
    """Seconds from now until these processes did nothing any more, as far as `watch_s` shows."""
    began_s = last_s = perf_counter()
    ended_s, spent_s = began_s, sum(map(cpu_s, pids))
    while pids and (now_s := perf_counter()) - began_s < watch_s:
        now_spent_s = sum(map(cpu_s, pids))
        if now_spent_s - spent_s > BUSY_SHARE * (now_s - last_s) > 0:
            ended_s = now_s
        last_s, spent_s = now_s, now_spent_s
        await asyncio.sleep(SAMPLE_S)
    return ended_s - began_s


def spread(values: Sequence[float], unit: float = 1000.0) -> dict[str, float]:
    """Median, 99th percentile and maximum, in milliseconds for seconds."""
    if not values:
        return {"n": 0}
    ordered = sorted(values)
    return {
        "n": len(ordered),
        "p50": round(unit * statistics.median(ordered), 2),
        "p95": round(unit * percentile(ordered, 0.95), 2),
        "p99": round(unit * percentile(ordered, 0.99), 2),
        "max": round(unit * ordered[-1], 2),
    }


def percentile(ordered: Sequence[float], share: float) -> float:
    """Of sorted values, by the nearest rank; 0 where there are none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]
