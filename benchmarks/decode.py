"""Decoding speed of every mode against `ar` and against transformers, batch 1, in one run.

What is measured, and why this way: captions of held-out scenes, greedy, the prompt cached
beforehand, so only decoding is timed. Modes and transformers take turns on each caption, so a slow
moment of the machine hits all of them; speeds are medians over captions, with quartiles, and every
claim is a ratio within this run. transformers runs `generate` on the same weights and prompt, its
own prefill taken off. Last, one forward by number of rows. Prints tables, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table

from tests.twins.mistral3 import mistral3_twin
from vlm_dlm.decoding import MODES
from vlm_dlm.engine.core import EngineCore
from vlm_dlm.engine.pages import PageTable
from vlm_dlm.engine.rows import PackedRows
from vlm_dlm.events import Failed, Finished
from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams
from vlm_dlm.runtime import Runtime
from vlm_dlm.scenes.samples import make_sample
from vlm_dlm.step import StepPlan, Visibility

ROW_COUNTS = (1, 8, 16, 32, 72, 272)
# Prefill gives `generate` its first token, so only those after it are timed; the same for `ar`.
AFTER_FIRST = "ar after its first token"
TRANSFORMERS = "transformers"


def main() -> None:
    args = _arguments()
    runtime = Runtime.load(args.model, device=args.device, dtype=args.dtype)
    prompts = [_prompt(runtime, index) for index in range(args.captions)]
    speeds, forwards = _measure(runtime, prompts, args.max_tokens, args.rounds)
    rows = _forward_ms(runtime, args.repeats)
    report = _report(runtime, args, speeds, forwards, rows)
    _show(report)
    print(json.dumps(report))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None, help="folder or Hub id; default: embedded")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--captions", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3, help="times each caption is written")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=60, help="forwards per row count")
    return parser.parse_args()


def _prompt(runtime: Runtime, index: int) -> PromptInput:
    image = make_sample(index, "heldout", seed=1).image
    return runtime.inputs(runtime.prompt("Describe the image.", [image]))


def _measure(
    runtime: Runtime, prompts: list[PromptInput], max_tokens: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Tokens/s of every caption, and tokens per forward over all captions. One warm-up round."""
    twin = _Twin(runtime, max_tokens)
    speeds: dict[str, list[float]] = {name: [] for name in (*MODES, AFTER_FIRST, TRANSFORMERS)}
    counts = {name: [0, 0] for name in MODES}
    for number in range(rounds + 1):
        for prompt in prompts:
            for name in MODES:
                stats = _run(runtime.core, prompt, name, max_tokens).stats
                if number:
                    speeds[name].append(stats.tokens_per_s)
                    if name == "ar":
                        speeds[AFTER_FIRST].append((stats.num_tokens - 1) / stats.decode_s)
                    counts[name][0] += stats.num_tokens
                    counts[name][1] += stats.num_forwards
            speed = twin.tokens_per_s(prompt)
            if number:
                speeds[TRANSFORMERS].append(speed)
    return speeds, {name: tokens / forwards for name, (tokens, forwards) in counts.items()}


def _run(core: EngineCore, prompt: PromptInput, mode: str, max_tokens: int) -> Finished:
    sampling = SamplingParams(max_tokens=max_tokens)
    request = GenerationRequest("bench", prompt, mode, sampling=sampling, keep_prompt=True)
    last = list(core.run([request]))[-1]
    if isinstance(last, Failed):
        raise SystemExit(f"{mode}: {last.message}")
    assert isinstance(last, Finished)
    return last


class _Twin:
    """The same weights in transformers."""

    def __init__(self, runtime: Runtime, max_tokens: int) -> None:
        cache = runtime.runner.cache.data
        self.device = cache.device
        self.model = mistral3_twin(runtime.model).to(cache.device, cache.dtype)
        self.end = next(iter(runtime.core.ids.eos))
        self.max_tokens = max_tokens

    def tokens_per_s(self, prompt: PromptInput) -> float:
        """Speed of `generate` after its prefill: same prompt, dtype and end token."""
        inputs = _transformers_inputs(prompt, self.device)
        short = _seconds(lambda: _generate(self.model, inputs, 1, self.end))
        began = time.perf_counter()
        output = _generate(self.model, inputs, self.max_tokens, self.end)
        seconds = time.perf_counter() - began - short
        return (output.shape[1] - len(prompt.token_ids) - 1) / seconds


def _transformers_inputs(prompt: PromptInput, device: torch.device) -> dict[str, torch.Tensor]:
    pixels = prompt.images[0].pixels
    inputs = {
        "input_ids": torch.tensor([prompt.token_ids]),
        "attention_mask": torch.ones(1, len(prompt.token_ids), dtype=torch.long),
        "pixel_values": pixels[None],
        "image_sizes": torch.tensor([pixels.shape[-2:]]),
    }
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def _generate(model: Any, inputs: dict[str, torch.Tensor], num: int, end: int) -> torch.Tensor:
    with torch.inference_mode():
        return model.generate(
            **inputs, max_new_tokens=num, do_sample=False, eos_token_id=end, pad_token_id=end
        )


def _forward_ms(runtime: Runtime, repeats: int) -> dict[int, list[float]]:
    """Milliseconds of one forward of n rows with their head over 128 cached tokens, row counts
    taking turns, each after one untimed forward of its own size."""
    core, runner = runtime.core, runtime.runner
    pages = core.allocator.take(core.allocator.pages_for(128 + max(ROW_COUNTS)))
    assert pages is not None, "an idle engine has room"
    table = PageTable(core.allocator, pages)
    runner.cache.data.zero_()
    times: dict[int, list[float]] = {num: [] for num in ROW_COUNTS}
    for number in range(repeats + 3):
        for num in ROW_COUNTS:
            plan = StepPlan([1000] * num, Visibility.FULL)
            rows = PackedRows(plan, 128, table, logit_rows=num)
            work = lambda r=rows: runner.run([r])[0].max().item()  # noqa: E731
            work()  # a large forward before this one has emptied the caches
            seconds = _seconds(work)
            if number >= 3:
                times[num].append(1000 * seconds)
    table.release()
    return times


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _spread(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": round(middle, 3), "q1": round(low, 3), "q3": round(high, 3)}


def _report(
    runtime: Runtime,
    args: argparse.Namespace,
    speeds: dict[str, list[float]],
    forwards: dict[str, float],
    rows: dict[int, list[float]],
) -> dict[str, Any]:
    ar = statistics.median(speeds["ar"])
    return {
        "benchmark": "decode",
        "revision": _revision(),
        "model": runtime.checkpoint.name,
        "device": runtime.device,
        "dtype": runtime.dtype,
        "threads": torch.get_num_threads(),
        "batch": 1,
        "state": "warm",
        "captions": args.captions,
        "rounds": args.rounds,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokens_per_s": {name: _spread(values) for name, values in speeds.items()},
        "times_ar": {
            name: round(statistics.median(values) / ar, 2) for name, values in speeds.items()
        },
        "ar_times_transformers": round(
            statistics.median(speeds[AFTER_FIRST]) / statistics.median(speeds[TRANSFORMERS]), 2
        ),
        "tokens_per_forward": {name: round(value, 2) for name, value in forwards.items()},
        "forward_ms": {str(num): _spread(values) for num, values in rows.items()},
    }


def _revision() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _show(report: dict[str, Any]) -> None:
    console = Console()
    console.print(
        f"{report['device']}, {report['dtype']}, {report['threads']} threads, batch 1, warm; "
        f"{report['captions']} captions x {report['rounds']} rounds, medians (quartiles)"
    )
    table = Table("decoder", "tokens/s", "x ar", "tokens per forward")
    for name, speed in report["tokens_per_s"].items():
        figures = f"{speed['median']:.0f} ({speed['q1']:.0f} to {speed['q3']:.0f})"
        per_forward = report["tokens_per_forward"].get(name, 1.0)
        table.add_row(name, figures, f"{report['times_ar'][name]:.2f}", f"{per_forward:.2f}")
    console.print(table)
    one = report["forward_ms"]["1"]["median"]
    table = Table("rows of one forward", "ms", "x one row")
    for num, spread in report["forward_ms"].items():
        table.add_row(num, f"{spread['median']:.2f}", f"{spread['median'] / one:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
