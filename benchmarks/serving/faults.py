"""Faults done to real servers: clients who leave, engines and servers that are killed, signals.

What is measured, and why this way: everything from outside, as a client or an operator sees it: the
answers, /metrics, and what the system says of processes (their life, open files, processor time).
Engines run the embedded model with its end token taken out, so that answers are long enough to
have a middle. An engine that is lost five times within two minutes stays down on purpose, so kills
are spread over several servers, four each. Prints a line per claim, then one JSON line. Exit code 1
if a claim does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from benchmarks.serving.report import check_rows, machine_figures, show_check, show_machine
from tests.e2e.client import Connection, post
from tests.e2e.endless import write_endless_checkpoint
from tests.e2e.faults.check import Check, Watcher
from tests.e2e.faults.crash import (
    KILLS_PER_SERVER,
    KillFigures,
    check_end,
    check_front_killed,
    check_kills,
    check_stays_down,
)
from tests.e2e.faults.disconnect import CHAT, check_disconnect, states
from tests.e2e.faults.ending import check_drain, check_second_signal, check_unanswered
from tests.e2e.faults.slow import check_slow_clients
from tests.e2e.faults.storm import check_storm
from tests.e2e.server import Server, total
from tests.e2e.workload import long_answer

NUM_PLACES = 4
FAULTS = ("disconnect", "storm", "kill", "drain", "front", "slow")


def main() -> None:
    args = _arguments()
    console = Console(width=140)
    checks: list[Check] = []
    with tempfile.TemporaryDirectory() as folder:
        model = write_endless_checkpoint(Path(folder))
        with Server(spare_engine=True, model=model, log_level="warning") as server:
            machine = asyncio.run(machine_figures(server))
        show_machine(console, machine)
        for check in _checks(args, model):
            checks.append(check)
            show_check(console, check)
    report = {"benchmark": "serving.faults", **machine, "checks": check_rows(checks)}
    print(json.dumps(report))
    if not all(check.is_passed for check in checks):
        raise SystemExit(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(FAULTS), help="some of: %(default)s")
    parser.add_argument("--repeats", type=int, default=10, help="of leaving, per state")
    parser.add_argument("--storm", type=int, default=500, help="clients of the storm")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--kill-clients", type=int, default=8)
    parser.add_argument("--streams", type=int, default=20, help="open at a signal")
    parser.add_argument("--slow", type=int, default=200, help="clients who hardly send")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _checks(args: argparse.Namespace, model: Path) -> Iterator[Check]:
    wanted = args.only.split(",")
    if "disconnect" in wanted:
        with Server(
            spare_engine=True, model=model, max_running=NUM_PLACES, log_level="warning"
        ) as server:
            for state in states():
                yield asyncio.run(check_disconnect(server, state, NUM_PLACES, args.repeats))
    if "storm" in wanted:
        with Server(spare_engine=True, model=model, log_level="warning") as server:
            yield asyncio.run(check_storm(server, args.storm, args.seed))
    if "kill" in wanted:
        yield from _kills(args, model)
    if "drain" in wanted:
        for check in (check_drain, check_second_signal):
            with Server(spare_engine=True, model=model, log_level="warning") as server:
                # all streams at once must fit into the cache, or some only wait
                body = long_answer(max_tokens=400 if check is check_drain else 1200)
                yield asyncio.run(check(server, args.streams, body))
        with Server(spare_engine=True, model=model, log_level="warning") as server:
            yield asyncio.run(check_unanswered(server))
    if "front" in wanted:
        yield _front(model)
    if "slow" in wanted:
        with Server(spare_engine=True, model=model, log_level="warning") as server:
            yield asyncio.run(check_slow_clients(server, args.slow, 20, 60))


def _kills(args: argparse.Namespace, model: Path) -> Iterator[Check]:
    """All kills as one claim, then what is left behind, then too many of them."""
    figures, ends = KillFigures(), Check("orderly ends afterwards, no orphans")
    for number, first in enumerate(range(0, args.kills, KILLS_PER_SERVER)):
        num_kills = min(KILLS_PER_SERVER, args.kills - first)
        with Server(spare_engine=True, model=model, log_level="error") as server:
            seed = args.seed + number
            asyncio.run(check_kills(server, num_kills, args.kill_clients, seed, figures))
            ends.faults += check_end(server).faults
    yield figures.check(args.kills)
    yield ends
    with Server(spare_engine=True, model=model, log_level="error") as server:
        yield asyncio.run(check_stays_down(server))


def _front(model: Path) -> Check:
    """Killed in the middle of long computations."""

    async def begin(server: Server) -> list[Connection]:
        connections = [await Connection.open(server.host, server.port) for _ in range(4)]
        for connection in connections:
            await connection.send(post(CHAT, long_answer("quadratic_spec")))
        async with Watcher(server) as watcher:
            await watcher.until(lambda found: total(found, "num_requests_running") == 4, 20.0)
        return connections

    async def run(server: Server) -> Check:
        connections = await begin(server)
        check = await asyncio.to_thread(check_front_killed, server)
        for connection in connections:
            await connection.leave()
        return check

    with Server(spare_engine=True, model=model, log_level="warning") as server:
        return asyncio.run(run(server))


if __name__ == "__main__":
    main()
