from __future__ import annotations

import asyncio

import pytest

from tests.e2e.conftest import NUM_PLACES
from tests.e2e.faults.disconnect import State, check_disconnect, states
from tests.e2e.faults.storm import check_storm
from tests.e2e.server import Server


@pytest.mark.parametrize("state", states(), ids=lambda state: state.name)
def test_work_for_a_client_who_left_ends_at_once(model_server: Server, state: State) -> None:
    # on a busy machine; benchmarks/serving/faults.py holds it to 250 ms
    check = asyncio.run(check_disconnect(model_server, state, NUM_PLACES, limit_s=1.0))
    assert check.is_passed, check


def test_a_storm_of_clients_who_leave_leaves_nothing_behind(model_server: Server) -> None:
    check = asyncio.run(check_storm(model_server, num_clients=60))
    assert check.is_passed, check
