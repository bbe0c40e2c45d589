"""A real server of the embedded checkpoint under load, over real sockets, in one run.

What is measured, and why this way: captions of example images and drawn scenes, streamed, greedy.
First `ar` with 1 and 16 clients in turns (their ratio is what batching gives), then mixed modes
with 1 to 64 clients, all in closed loops. Then, by a clock and from 20 clients, three times as many
requests as the best of these got through: an open loop, since clients of a slow server do not wait
for each other. Last, 20 clients who want the same, and one who wants far more, on a server with few
places, so that the queue decides. Every image is encoded anew. Times count from the moment at which
a request was due; a pause is the longest one between two pieces of an answer. Prints tables, then
one JSON line. Exit code 1 if a claim does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.serving.report import check_rows, machine_figures, show_check, show_machine
from benchmarks.serving.traffic import MakeBody, Phase, captions, closed_loops, jain, open_loop
from tests.e2e.faults.check import Check, percentile, spread
from tests.e2e.server import Server

NUM_KEYS = 20
KEYS = tuple(f"load-{number:02}" for number in range(NUM_KEYS))
FEW_PLACES = 8
PER_CLIENT = 3  # requests that each of the equal clients has open
GREEDY = 40  # and the greedy one


def main() -> None:
    args = _arguments()
    report, checks = asyncio.run(_measure(args))
    _show(report, checks)
    print(json.dumps(report))
    if not all(check.is_passed for check in checks):
        raise SystemExit(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None, help="folder or Hub id; default: embedded")
    parser.add_argument("--seconds", type=float, default=15.0, help="window of each phase")
    parser.add_argument("--overload-seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=2, help="turns of `ar` with 1 and 16 clients")
    parser.add_argument("--clients", default="1,4,16,64", help="of the phases in mixed modes")
    return parser.parse_args()


async def _measure(args: argparse.Namespace) -> tuple[dict[str, Any], list[Check]]:
    shared: dict[str, Any] = {"api_keys": KEYS, "log_level": "warning"}
    if args.model is not None:
        shared["model"] = args.model
    checks: list[Check] = []
    with Server(spare_engine=True, **shared) as server:
        machine = await machine_figures(server, KEYS[0])
        alone, together = await _batching(server, args, checks)
        ladder = await _ladder(server, args, checks)
        overload = await _overload(server, args, ladder, checks)
    with Server(spare_engine=True, **shared, max_running=FEW_PLACES) as server:
        equal = await _equal(server, args, checks)
        greedy = await _greedy(server, args, checks)
    phases = {"ar, 1 client": alone[-1], "ar, 16 clients": together[-1]}
    phases |= {f"mixed, {number} clients": phase for number, phase in ladder.items()}
    phases |= {
        "mixed, 3 x overload": overload,
        "20 equal clients": equal,
        "1 greedy, 19 not": greedy,
    }
    report = {
        "benchmark": "serving.load",
        **machine,
        "state": "warm",
        "seconds": args.seconds,
        "phases": {name: _figures(phase) for name, phase in phases.items()},
        "checks": check_rows(checks),
    }
    return report, checks


async def _batching(
    server: Server, args: argparse.Namespace, checks: list[Check]
) -> tuple[list[Phase], list[Phase]]:
    """`ar` alone, with 1 and 16 clients in turns."""
    make = captions(("ar",))
    alone, together = [], []
    for _ in range(args.rounds):
        alone.append(await closed_loops(server, [0], make, KEYS, args.seconds))
        together.append(await closed_loops(server, range(16), make, KEYS, args.seconds))
    one, many = (
        statistics.mean(phase.tokens_per_s for phase in phases) for phases in (alone, together)
    )
    check = Check("ar: 16 clients get at least 3 x the tokens/s of one")
    check.figures = {
        "one": round(one),
        "sixteen": round(many),
        "ratio": round(many / max(one, 1.0), 2),
    }
    check.expect(many >= 3 * one > 0, "batching gives less")
    checks.append(check)
    checks.append(_all_complete("ar", [*alone, *together]))
    return alone, together


async def _ladder(
    server: Server, args: argparse.Namespace, checks: list[Check]
) -> dict[int, Phase]:
    """Mixed modes, by number of clients."""
    make, ladder = captions(), dict[int, Phase]()
    for number in map(int, args.clients.split(",")):
        owners = [index % NUM_KEYS for index in range(number)]
        ladder[number] = await closed_loops(server, owners, make, KEYS, args.seconds)
    checks.append(_all_complete("mixed modes", list(ladder.values())))
    return ladder


async def _overload(
    server: Server, args: argparse.Namespace, ladder: dict[int, Phase], checks: list[Check]
) -> Phase:
    best = max(ladder.values(), key=lambda phase: phase.tokens_per_s)
    per_s = 3 * max(best.requests_per_s, 0.1)
    phase = await open_loop(server, per_s, captions(), KEYS, args.overload_seconds)
    refusals = [(o.head_s or o.end_s or 0.0) - o.began_s for o in phase.refused]
    share = phase.tokens_per_s / max(best.tokens_per_s, 1.0)
    check = Check("3 x overload: goodput at least 90 % of its peak, refusals within 50 ms")
    check.figures = {
        "offered_per_s": round(per_s, 1),
        "goodput_share": round(share, 3),
        "refusal_ms": spread(refusals),
        "generator_lag_ms": spread(phase.lags),
        "statuses": sorted({outcome.status for outcome in phase.refused}),
    }
    median, last = (percentile(sorted(refusals), part) for part in (0.5, 0.99))
    check.expect(bool(refusals), "nothing was refused")
    check.expect(share >= 0.9, f"goodput fell to {share:.0%} of its peak")
    check.expect(median <= 0.05, f"refusals took {1000 * median:.0f} ms at the median")
    check.figures["is_p99_within_50_ms"] = last <= 0.05
    has_hint = all("retry-after" in outcome.headers for outcome in phase.refused)
    check.expect(has_hint, "a refusal had no Retry-After")
    checks += [check, _all_complete("overload", [phase])]
    return phase


async def _equal(server: Server, args: argparse.Namespace, checks: list[Check]) -> Phase:
    owners = [index % NUM_KEYS for index in range(PER_CLIENT * NUM_KEYS)]
    phase = await closed_loops(server, owners, _plain(), KEYS, args.seconds)
    index = jain(phase.tokens_of(NUM_KEYS))
    check = Check("20 equal clients: Jain's index at least 0.9")
    check.figures = {"jain": round(index, 3), "refused": len(phase.refused)}
    check.expect(index >= 0.9, f"the index is {index:.3f}")
    checks += [check, _all_complete("equal clients", [phase])]
    return phase


async def _greedy(server: Server, args: argparse.Namespace, checks: list[Check]) -> Phase:
    owners = [0] * GREEDY + list(range(1, NUM_KEYS))
    phase = await closed_loops(server, owners, _plain(), KEYS, args.seconds)
    tokens = phase.tokens_of(NUM_KEYS)
    share, index = tokens[0] / max(sum(tokens), 1), jain(tokens[1:])
    quiet = sum(
        outcome.status == 429
        for owner, outcome in zip(phase.owners, phase.outcomes, strict=True)
        if owner
    )
    check = Check("1 greedy client among 19: at most half, the others alike and never refused")
    check.figures = {"share": round(share, 3), "jain_others": round(index, 3), "refused": quiet}
    check.expect(share <= 0.5, f"the greedy one got {share:.0%}")
    check.expect(index >= 0.9, f"the others' index is {index:.3f}")
    check.expect(not quiet, f"the others were refused {quiet} times")
    checks += [check, _all_complete("greedy client", [phase])]
    return phase


def _plain() -> MakeBody:
    """One mode, so that a client's luck with modes is not taken for unfairness."""
    return captions(("ar",))


def _all_complete(name: str, phases: list[Phase]) -> Check:
    check = Check(f"{name}: every accepted request completes")
    num_bad = sum(phase.num_incomplete for phase in phases)
    check.figures = {"accepted": sum(len(phase.accepted) for phase in phases)}
    check.expect(not num_bad, f"{num_bad} did not")
    return check


def _figures(phase: Phase) -> dict[str, Any]:
    return {
        "tokens_per_s": round(phase.tokens_per_s),
        "requests_per_s": round(phase.requests_per_s, 2),
        "ttft_ms": {"p50": phase.ms("first_s", 0.5), "p95": phase.ms("first_s", 0.95)},
        "longest_pause_ms": spread([outcome.max_gap_s for outcome in phase.accepted]),
        "total_ms": {"p50": phase.ms("end_s", 0.5), "p95": phase.ms("end_s", 0.95)},
        "accepted": len(phase.accepted),
        "refused": len(phase.refused),
        "incomplete": phase.num_incomplete,
        "live_ms": spread(phase.health),
        "cpu": phase.cpu,
    }


def _show(report: dict[str, Any], checks: list[Check]) -> None:
    console = Console(width=160)
    show_machine(console, report)
    table = Table("phase", "tokens/s", "requests/s", "TTFT ms p50 / p95", "whole ms p50 / p95")
    for name in (
        "pause ms p50 / p99",
        "refused",
        "live ms p99",
        "cpu: generator / server / engine",
    ):
        table.add_column(name)
    for name, phase in report["phases"].items():
        cpu, ttft, whole = phase["cpu"], phase["ttft_ms"], phase["total_ms"]
        table.add_row(
            name,
            str(phase["tokens_per_s"]),
            str(phase["requests_per_s"]),
            f"{ttft['p50']} / {ttft['p95']}",
            f"{whole['p50']} / {whole['p95']}",
            f"{phase['longest_pause_ms'].get('p50')} / {phase['longest_pause_ms'].get('p99')}",
            f"{phase['refused']} of {phase['refused'] + phase['accepted']}",
            str(phase["live_ms"].get("p99", "-")),
            f"{cpu['generator']} / {cpu['server']} / {cpu['engine']}",
        )
    console.print(table)
    for check in checks:
        show_check(console, check)


if __name__ == "__main__":
    main()
