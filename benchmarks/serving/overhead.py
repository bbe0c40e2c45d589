"""Time to the first byte: what HTTP, queue and process boundary add over calling the engine.

What is measured, and why this way: one request at a time, `ar`, greedy, on the embedded checkpoint;
an engine in this process and a server with its own on the same machine, asked in turns within one
run, so that a slow moment hits both. Both have seen the image before, so its features are cached on
both sides; the prompt is prefilled every time.

- `engine`: from `TorchEngine.generate` with a prepared prompt to its first Committed event.
- `prepare`: image bytes and text to that prompt, in this process, as `Runtime` does it.
- `direct`: both, one after the other: what a program pays that calls the library itself.
- `http`: from the first byte of a streaming chat completion, sent over a connection that is kept
  alive, to the first chunk with content, parsed. So it holds the client's own work, JSON, checks,
  the image's base64 and its way through the decoding child, the queue, the engine's process, SSE.

The claim is on `http - direct`, by the medians, for text alone and with an image. Prints a table,
then one JSON line. Exit code 1 if the claim does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import statistics
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.serving.report import check_rows, machine_figures, show_check, show_machine
from tests.e2e.client import Connection, ask, post
from tests.e2e.faults.check import Check
from tests.e2e.faults.disconnect import CHAT
from tests.e2e.server import Server
from tests.e2e.workload import PROMPT, chat, pictures
from vlm_dlm.engine.torch_engine import TorchEngine
from vlm_dlm.events import Committed
from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams
from vlm_dlm.runtime import Runtime

LIMIT_MS = 3.0
MAX_TOKENS = 4
WARM_UPS = 10
PICTURE = 1  # of `pictures`: a drawn scene

_numbers = count()


@dataclass(slots=True)
class Times:
    """Milliseconds, one entry per turn."""

    engine: list[float] = field(default_factory=list)
    prepare: list[float] = field(default_factory=list)
    http: list[float] = field(default_factory=list)

    @property
    def direct(self) -> list[float]:
        return [a + b for a, b in zip(self.engine, self.prepare, strict=True)]


def main() -> None:
    args = _arguments()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report, checks = runner.run(_measure(args))
    _show(report, checks)
    print(json.dumps(report))
    if not all(check.is_passed for check in checks):
        raise SystemExit(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None, help="folder or Hub id; default: embedded")
    parser.add_argument("--turns", type=int, default=200, help="per kind of request")
    return parser.parse_args()


async def _measure(args: argparse.Namespace) -> tuple[dict[str, Any], list[Check]]:
    runtime = Runtime.load(args.model)
    engine = TorchEngine(runtime.core)
    settings = {} if args.model is None else {"model": args.model}
    kinds: dict[str, tuple[str, ...]] = {
        "text": (),
        "image": (pictures(PICTURE + 1)[PICTURE],),
    }
    times: dict[str, Times] = {}
    with Server(spare_engine=True, log_level="warning", **settings) as server:
        machine = await machine_figures(server)
        for kind, images in kinds.items():
            times[kind] = await _turns(runtime, engine, server, images, args.turns)
    await engine.close()
    checks = [_check(kind, found) for kind, found in times.items()]
    report = {
        "benchmark": "serving.overhead",
        **machine,
        "state": "warm",
        "batch": 1,
        "turns": args.turns,
        "times_ms": {kind: _figures(found) for kind, found in times.items()},
        "checks": check_rows(checks),
    }
    return report, checks


async def _turns(
    runtime: Runtime, engine: TorchEngine, server: Server, images: tuple[str, ...], num_turns: int
) -> Times:
    """Both ways in turns, the first of each pair changing."""
    times, files = Times(), [base64.b64decode(uri.partition(",")[2]) for uri in images]
    request = post(CHAT, chat(images, max_tokens=MAX_TOKENS))
    async with await Connection.open(server.host, server.port) as connection:
        for number in range(-WARM_UPS, num_turns):
            found: dict[str, float] = {}
            for way in ("direct", "http") if number % 2 else ("http", "direct"):
                await asyncio.sleep(0.03)
                if way == "http":
                    found["http"] = await _http(connection, request)
                else:
                    found["prepare"], prompt = _timed(lambda: _prepare(runtime, files))
                    found["engine"] = await _engine(engine, prompt)
            if number >= 0:
                for name, value in found.items():
                    getattr(times, name).append(value)
    return times


async def _http(connection: Connection, request: bytes) -> float:
    """Milliseconds to the first content; the answer is read to its end."""
    outcome = await ask(connection, request)
    assert outcome.is_complete, f"status {outcome.status}, error {outcome.error}"
    assert outcome.first_s is not None, "the answer has no text"
    return 1000 * (outcome.first_s - outcome.began_s)


def _prepare(runtime: Runtime, files: list[bytes]) -> PromptInput:
    return runtime.inputs(runtime.prompt(PROMPT, files, max_tokens=MAX_TOKENS))


async def _engine(engine: TorchEngine, prompt: PromptInput) -> float:
    """Milliseconds to the first Committed; the answer is read to its end."""
    sampling = SamplingParams(max_tokens=MAX_TOKENS)
    request = GenerationRequest(f"direct-{next(_numbers)}", prompt, "ar", None, sampling)
    began_s, first_s = perf_counter(), 0.0
    events = engine.generate(request)
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Committed) and event.text and not first_s:
                first_s = perf_counter()
    assert first_s, "the answer has no text"
    return 1000 * (first_s - began_s)


def _timed(work: Callable[[], PromptInput]) -> tuple[float, PromptInput]:
    began_s = perf_counter()
    prompt = work()
    return 1000 * (perf_counter() - began_s), prompt


def _check(kind: str, times: Times) -> Check:
    check = Check(f"{kind}: at most {LIMIT_MS:g} ms added to the first byte")
    added = statistics.median(times.http) - statistics.median(times.direct)
    over_engine = statistics.median(times.http) - statistics.median(times.engine)
    pairs = [a - b for a, b in zip(times.http, times.direct, strict=True)]
    check.figures = {
        "added_ms": round(added, 2),
        "added_per_turn_ms": _spread(pairs),
        "over_prepared_ms": round(over_engine, 2),
    }
    check.expect(added <= LIMIT_MS, f"{added:.2f} ms were added")
    return check


def _figures(times: Times) -> dict[str, dict[str, float]]:
    names = ("engine", "prepare", "direct", "http")
    return {name: _spread(getattr(times, name)) for name in names}


def _spread(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": round(middle, 2), "q1": round(low, 2), "q3": round(high, 2)}


def _show(report: dict[str, Any], checks: list[Check]) -> None:
    console = Console(width=140)
    show_machine(console, report)
    table = Table("first byte, ms, medians (quartiles)", *next(iter(report["times_ms"].values())))
    for kind, figures in report["times_ms"].items():
        cells = (f"{f['median']} ({f['q1']} to {f['q3']})" for f in figures.values())
        table.add_row(kind, *cells)
    console.print(table)
    for check in checks:
        show_check(console, check)


if __name__ == "__main__":
    main()
