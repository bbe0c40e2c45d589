"""Memory, speed and agreement of int8 and int4 weights against plain ones, in every mode.

Asks: what does `--quantize` save, what does it cost in time, how often does the model still say the
same? All three models are loaded in one process; prompts and models take turns, so that a busy
machine slows all of them alike. Speed is that of decoding, at batch 1, as a ratio to the plain
model on the same prompt; agreement is with the plain model's answer in the same mode. The embedded
model is small, so calls from Python weigh in; one product of the 8B model's width says what remains
without them. Prints tables, then one JSON line.

    python -m benchmarks.quantization --scenes 40 --timed 8 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from vlm_dlm.decoding import MODES
from vlm_dlm.evaluation.scenes import MAX_TOKENS, Task, tasks
from vlm_dlm.evaluation.scores import CAPTION
from vlm_dlm.model.linear import empty_weight, product
from vlm_dlm.model.quantization import SCHEMES
from vlm_dlm.model.quantized_linear import QuantizedLinear
from vlm_dlm.report import Answer
from vlm_dlm.request import GenerationRequest, SamplingParams
from vlm_dlm.runtime import Runtime

PLAIN = "plain"
SAMPLING = SamplingParams(max_tokens=MAX_TOKENS)


def main() -> None:
    args = _arguments()
    runtimes = {
        name: Runtime.load(
            args.model, args.device, args.dtype, quantize=None if name == PLAIN else name
        )
        for name in (PLAIN, *SCHEMES)
    }
    asked = list(tasks(runtimes[PLAIN], args.scenes))
    answers = {name: _answers(runtime, asked) for name, runtime in runtimes.items()}
    timed = [task for task in asked if task.kind == CAPTION][: args.timed]
    ratios, forwards = _speed(runtimes, timed, args.rounds)
    report: dict[str, Any] = {
        "benchmark": "quantization",
        "revision": _revision(),
        "model": runtimes[PLAIN].checkpoint.name,
        "device": runtimes[PLAIN].device,
        "dtype": runtimes[PLAIN].dtype,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "scenes": args.scenes,
        "prompts": len(asked),
        "timed_prompts": len(timed),
        "rounds": args.rounds,
        "weight_bytes": {name: _weight_bytes(runtime) for name, runtime in runtimes.items()},
        "agreement": {
            name: {mode: _agreement(asked, answers[PLAIN][mode], own[mode]) for mode in MODES}
            for name, own in answers.items()
        },
        "speed_ratio": {
            name: {mode: _spread(values) for mode, values in own.items()}
            for name, own in ratios.items()
        },
        "forward_ms": forwards,
        "matrix": _matrix(args.width, args.rounds * 5) if args.width else None,
    }
    _show(report)
    print(json.dumps(report))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--timed", type=int, default=8, help="captions of the speed figures")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=4096, help="of one matrix; 0 leaves it out")
    return parser.parse_args()


def _weight_bytes(runtime: Runtime) -> int:
    model = runtime.model
    return sum(tensor.nbytes for tensor in chain(model.parameters(), model.buffers()))


def _answers(runtime: Runtime, asked: list[Task]) -> dict[str, list[Answer]]:
    """Of every prompt in every mode, eight at a time."""
    found: dict[str, list[Answer]] = {mode: [] for mode in MODES}
    for mode in MODES:
        for start in range(0, len(asked), 8):
            group = [_request(mode, task, i) for i, task in enumerate(asked[start : start + 8])]
            found[mode] += runtime.answers(group)
    return found


def _request(mode: str, task: Task, index: int = 0) -> GenerationRequest:
    params = MODES[mode].Params()
    return GenerationRequest(f"{mode}-{index}", task.prompt, mode, params, SAMPLING)


def _agreement(asked: list[Task], plain: list[Answer], own: list[Answer]) -> dict[str, float]:
    """Shares: answers with the same tokens, tokens that stand at the same place, right answers."""
    pairs = list(zip(plain, own, strict=True))
    same = [a.token_ids == b.token_ids for a, b in pairs]
    equal = sum(x == y for a, b in pairs for x, y in zip(a.token_ids, b.token_ids, strict=False))
    longest = sum(max(len(a.token_ids), len(b.token_ids)) for a, b in pairs)
    exact = [b.text.strip() == task.expected.strip() for b, task in zip(own, asked, strict=True)]
    tokens = sum(b.stats.num_tokens for b in own)
    return {
        "answers_equal": round(statistics.mean(same), 3),
        "tokens_equal": round(equal / longest, 3),
        "right": round(statistics.mean(exact), 3),
        "tokens_per_forward": round(tokens / sum(b.stats.num_forwards for b in own), 2),
    }


def _speed(
    runtimes: dict[str, Runtime], timed: list[Task], rounds: int
) -> tuple[dict[str, dict[str, list[float]]], dict[str, dict[str, float]]]:
    """Tokens per second of each model over those of the plain one, prompt by prompt; and the median
    milliseconds of one decode forward."""
    ratios: dict[str, dict[str, list[float]]] = {
        name: {mode: [] for mode in MODES} for name in SCHEMES
    }
    forwards: dict[str, dict[str, list[float]]] = {
        name: {mode: [] for mode in MODES} for name in runtimes
    }
    for mode in MODES:
        for runtime in runtimes.values():
            runtime.answers([_request(mode, timed[0])])
        for task in timed * rounds:
            speeds: dict[str, float] = {}
            for name, runtime in runtimes.items():
                request = replace(_request(mode, task), keep_prompt=True)
                stats = runtime.answers([request])[0].stats
                speeds[name] = stats.tokens_per_s
                forwards[name][mode].append(1000 * stats.decode_s / stats.num_forwards)
            for name in SCHEMES:
                ratios[name][mode].append(speeds[name] / speeds[PLAIN])
    return ratios, {
        name: {mode: round(statistics.median(values), 2) for mode, values in own.items()}
        for name, own in forwards.items()
    }


def _matrix(width: int, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """One product with a matrix [width, width] on the CPU, as it is in the 8B model, over the plain
    float32 one with the same rows: dtype and weights to rows to times as long."""
    cpu, weight = torch.device("cpu"), torch.randn(width, width) * 0.02
    plain = empty_weight((width, width), torch.float32, cpu, is_product=True).copy_(weight)
    narrow = weight.bfloat16()
    products: dict[str, Callable[[torch.Tensor], object]] = {
        f"float32, {PLAIN}": lambda x: product(x, plain),
        f"bfloat16, {PLAIN}": lambda x: product(x.bfloat16(), narrow),
    }
    for dtype in (torch.float32, torch.bfloat16):
        for name, scheme in SCHEMES.items():
            module = QuantizedLinear((width, width), scheme, dtype, cpu)
            module.fill(0, weight)
            title = f"{str(dtype).removeprefix('torch.')}, {name}"
            products[title] = lambda x, module=module, dtype=dtype: module(x.to(dtype))
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in products}
    for num_rows in (1, 32):
        x = torch.randn(num_rows, width)
        ratios: dict[str, list[float]] = {name: [] for name in products}
        for _ in range(rounds + 1):
            times = {name: _time(run, x) for name, run in products.items()}
            for name, time_s in times.items():
                ratios[name].append(time_s / times[f"float32, {PLAIN}"])
        for name, values in ratios.items():
            found[name][str(num_rows)] = _spread(values[1:])  # the first is cold
    return found


@torch.inference_mode()
def _time(run: Callable[[torch.Tensor], object], x: torch.Tensor) -> float:
    began = time.perf_counter()
    run(x)
    return time.perf_counter() - began


def _spread(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": round(middle, 2), "q1": round(low, 2), "q3": round(high, 2)}


def _revision() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _show(report: dict[str, Any]) -> None:
    console = Console()
    console.print(
        f"{report['model']} on {report['device']}, {report['dtype']}, {report['threads']} threads; "
        f"{report['prompts']} prompts of {report['scenes']} scenes; speed: "
        f"{report['timed_prompts']} captions x {report['rounds']} rounds, batch 1"
    )
    plain_bytes = report["weight_bytes"][PLAIN]
    for name, size in report["weight_bytes"].items():
        console.print(f"{name}: {size / 1e6:.1f} MB of weights, {size / plain_bytes:.2f} of plain")
    table = Table("weights", "mode", "speed, x plain (quartiles)", "ms per forward")
    for column in ("answers equal", "tokens equal", "right", "tokens per forward"):
        table.add_column(column, justify="right")
    for name, modes in report["agreement"].items():
        for mode, found in modes.items():
            ratio = report["speed_ratio"].get(name, {}).get(mode)
            shown = "1" if ratio is None else f"{ratio['median']} ({ratio['q1']} to {ratio['q3']})"
            time_ms = f"{report['forward_ms'][name][mode]}"
            table.add_row(name, mode, shown, time_ms, *(str(value) for value in found.values()))
    console.print(table)
    if report["matrix"] is None:
        return
    table = Table("one product", "1 row, x float32", "32 rows, x float32")
    for name, rows in report["matrix"].items():
        shown = (f"{one['median']} ({one['q1']} to {one['q3']})" for one in rows.values())
        table.add_row(name, *shown)
    console.print(table)


if __name__ == "__main__":
    main()
