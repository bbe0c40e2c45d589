from __future__ import annotations

import asyncio

from tests.e2e.faults.crash import (
    check_end,
    check_front_killed,
    check_kills,
    check_stays_down,
)
from tests.e2e.server import Server


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
