"""Mode `ar` on vLLM against `ar` on our own engine, at one client and at several.

What is measured, and why this way: two servers of ours on this machine, one with each engine, asked
in turns within one run so that a slow moment hits both. Closed loops of clients ask for captions of
drawn scenes, greedy, float32 on a CPU, over connections that are kept alive. Tokens per second of
all clients together; both have seen every image once before, so features are cached where an engine
has such a cache. The idle server takes part of a small machine, the same for both.

Needs VLM_DLM_VLLM_PYTHON. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from tests.e2e.server import Server
from tests.e2e.workload import PROMPT, pictures

NUM_PICTURES = 8
MAX_TOKENS = 64
CLIENTS = (1, 8)


def main() -> None:
    args = _arguments()
    python = os.environ.get("VLM_DLM_VLLM_PYTHON")
    if not python:
        raise SystemExit("set VLM_DLM_VLLM_PYTHON; docs/vllm.md says how to get one")
    vllm = Server(arguments=("--backend", "vllm", "--vllm-alone"), vllm_python=python)
    with Server() as own, vllm:
        servers = {"own": own, "vllm": vllm}
        for server in servers.values():
            _speed(server, 1, NUM_PICTURES)
        rows = [_row(servers, clients, args.rounds, args.answers) for clients in CLIENTS]
    _show(rows)
    print(json.dumps({"rows": rows, "rounds": args.rounds, "answers": args.answers}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each engine, in turns")
    parser.add_argument("--answers", type=int, default=16, help="of one round")
    return parser.parse_args()


def _row(servers: dict[str, Server], clients: int, rounds: int, answers: int) -> dict[str, Any]:
    """Tokens per second by engine, the median of all rounds, and their ratio in each round."""
    found = [
        {name: _speed(server, clients, answers) for name, server in servers.items()}
        for _ in range(rounds)
    ]
    medians = {name: statistics.median(one[name] for one in found) for name in servers}
    ratios = sorted(one["vllm"] / one["own"] for one in found)
    return {
        "clients": clients,
        **{f"{name}_tokens_per_s": round(value, 1) for name, value in medians.items()},
        "vllm_over_own": round(statistics.median(ratios), 2),
        "lowest": round(ratios[0], 2),
        "highest": round(ratios[-1], 2),
    }


def _speed(server: Server, clients: int, answers: int) -> float:
    """Tokens per second of all clients together."""
    uris = pictures(NUM_PICTURES)
    with httpx.Client(base_url=server.base_url, timeout=300) as http:

        def ask(number: int) -> int:
            body = {
                "prompt": PROMPT,
                "images": [uris[number % NUM_PICTURES]],
                "mode": "ar",
                "options": {"max_tokens": MAX_TOKENS},
            }
            reply = http.post("/v1/generate", json=body)
            reply.raise_for_status()
            return reply.json()["usage"]["completion_tokens"]

        began = perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            num_tokens = sum(pool.map(ask, range(answers)))
        return num_tokens / (perf_counter() - began)


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table("clients", "own, tokens/s", "vLLM, tokens/s", "vLLM / own", "lowest", "highest")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
