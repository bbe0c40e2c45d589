"""Tokens per second of the engine by number of requests that run at once, in one run.

What is measured, and why this way: captions of held-out scenes, greedy. A fixed number of requests
is worked off with N of them in the engine at any time, as N clients would that ask one question
after the other; `EngineCore.step` runs without threads, transport or JSON. "decoding" has all
prompts cached beforehand, "whole" encodes every image and computes every prompt. The N take turns,
so a slow moment of the machine hits all of them; figures are medians over rounds, and every claim
is a ratio within this run. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from vlm_dlm.decoding import MODES
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.core import EngineCore
from vlm_dlm.events import Failed, Finished
from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams
from vlm_dlm.runtime import Runtime
from vlm_dlm.scenes.samples import make_sample

CONCURRENCY = (1, 4, 16, 64)
WORKLOADS = {**{mode: (mode,) for mode in MODES}, "mixed": tuple(MODES)}
PARTS = ("decoding", "whole")
_numbers = count()


def main() -> None:
    args = _arguments()
    limits = EngineConfig(max_cache_tokens=65536, num_kept_prompts=args.prompts)
    runtime = Runtime.load(args.model, device=args.device, dtype=args.dtype, engine_config=limits)
    prompts = [_prompt(runtime, index) for index in range(args.prompts)]
    speeds = _measure(runtime.core, prompts, args)
    report = {
        "benchmark": "batching",
        "model": runtime.checkpoint.name,
        "device": runtime.device,
        "dtype": runtime.dtype,
        "threads": torch.get_num_threads(),
        "requests": args.requests,
        "rounds": args.rounds,
        "max_tokens": args.max_tokens,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "tokens_per_s": speeds,
        "times_one": {name: _ratios(by_number) for name, by_number in speeds.items()},
    }
    _show(report)
    print(json.dumps(report))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None, help="folder or Hub id; default: embedded")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--prompts", type=int, default=16, help="different images")
    parser.add_argument("--requests", type=int, default=64, help="requests per measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=128)
    return parser.parse_args()


def _prompt(runtime: Runtime, index: int) -> PromptInput:
    image = make_sample(index, "heldout", seed=1).image
    return runtime.inputs(runtime.prompt("Describe the image.", [image]))


def _measure(
    core: EngineCore, prompts: list[PromptInput], args: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Median tokens/s by workload and number of requests. One warm-up round, not counted."""
    sampling = SamplingParams(max_tokens=args.max_tokens)
    found: dict[str, dict[str, list[float]]] = {}
    for number in range(args.rounds + 1):
        for workload, modes in WORKLOADS.items():
            for part in PARTS:
                for at_once in CONCURRENCY:
                    is_kept = part == "decoding"
                    # A large number of requests in flight needs more of them to be steady.
                    num = max(args.requests, 2 * at_once) if number else 2 * at_once
                    requests = _requests(prompts, modes, num, sampling, is_kept)
                    speed = _run(core, requests, at_once)
                    if number:
                        by_number = found.setdefault(f"{workload}, {part}", {})
                        by_number.setdefault(str(at_once), []).append(speed)
    return {
        name: {key: round(statistics.median(speeds), 1) for key, speeds in by_number.items()}
        for name, by_number in found.items()
    }


def _requests(
    prompts: list[PromptInput],
    modes: tuple[str, ...],
    num: int,
    sampling: SamplingParams,
    is_kept: bool,
) -> Iterator[GenerationRequest]:
    """Prompts and modes in turn. Without `is_kept` every image has a name never seen before."""
    for i in range(num):
        prompt = prompts[i % len(prompts)]
        name = f"request {next(_numbers)}"
        if not is_kept:
            images = (replace(image, content_hash=name) for image in prompt.images)
            prompt = replace(prompt, images=tuple(images))
        mode = modes[i % len(modes)]
        yield GenerationRequest(name, prompt, mode, sampling=sampling, keep_prompt=is_kept)


def _run(core: EngineCore, requests: Iterator[GenerationRequest], at_once: int) -> float:
    """Tokens per second over all requests, `at_once` of them in the engine."""
    num_tokens = num_running = 0
    is_done = False
    began = time.perf_counter()
    while num_running or not is_done:
        while num_running < at_once and not is_done:
            request = next(requests, None)
            is_done = request is None
            if request is not None:
                core.submit(request)
                num_running += 1
        for event in core.step():
            if isinstance(event, Failed):
                raise SystemExit(event.message)
            if isinstance(event, Finished):
                num_tokens += event.stats.num_tokens
                num_running -= 1
    return num_tokens / (time.perf_counter() - began)


def _ratios(by_number: dict[str, float]) -> dict[str, float]:
    return {key: round(speed / by_number["1"], 2) for key, speed in by_number.items()}


def _show(report: dict[str, Any]) -> None:
    console = Console()
    console.print(
        f"{report['device']}, {report['dtype']}, {report['threads']} threads, warm; medians of "
        f"{report['rounds']} rounds of {report['requests']} requests"
    )
    table = Table("tokens/s (x one request)", *(f"{num} at once" for num in CONCURRENCY))
    for name, by_number in report["tokens_per_s"].items():
        ratios = report["times_one"][name]
        cells = (f"{speed:.0f} ({ratios[key]:.2f})" for key, speed in by_number.items())
        table.add_row(name, *cells)
    console.print(table)


if __name__ == "__main__":
    main()
