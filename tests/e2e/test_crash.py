from __future__ import annotations

import asyncio
import os
import signal

import httpx

from tests.e2e.faults.crash import (
    check_end,
    check_front_killed,
    check_kills,
    check_stays_down,
)
from tests.e2e.server import Server, eventually


def test_a_killed_engine_answers_everybody_and_comes_back(model_server: Server) -> None:
    # how fast it comes back depends on the machine; benchmarks/serving/faults.py holds it to 5 s
    kills = check_kills(model_server, num_kills=2, num_clients=6, ready_s=60.0)
    check = asyncio.run(kills)
    assert check.is_passed, check


def test_a_killed_server_leaves_no_process(scripted_server: Server) -> None:
    check = check_front_killed(scripted_server)
    assert check.is_passed, check


def test_an_engine_that_is_lost_again_and_again_stays_down(scripted_server: Server) -> None:
    check = asyncio.run(check_stays_down(scripted_server))
    assert check.is_passed, check
    end = check_end(scripted_server)
    assert end.is_passed, end


def test_health_tells_within_seconds_that_the_engine_stands_still(scripted_server: Server) -> None:
    (engine,) = scripted_server.engines()
    os.kill(engine.pid, signal.SIGSTOP)
    try:
        with httpx.Client(base_url=scripted_server.base_url, trust_env=False) as client:
            eventually(lambda: client.get("/health/ready").status_code == 503, timeout_s=15)
            assert client.get("/health/ready").json()["status"] == "stalled"
            refused = client.post("/v1/generate", json={"prompt": "x"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
            os.kill(engine.pid, signal.SIGCONT)
            eventually(lambda: client.get("/health/ready").status_code == 200, timeout_s=15)
    finally:
        os.kill(engine.pid, signal.SIGCONT)
