from __future__ import annotations

import asyncio

import pytest

from tests.e2e.faults.slow import check_slow_clients
from tests.e2e.server import Server

pytestmark = pytest.mark.alone


def test_slow_clients_do_not_slow_the_others(scripted_server: Server) -> None:
    check = asyncio.run(
        check_slow_clients(scripted_server, num_slow=60, num_deaf=4, num_asked=6, max_ratio=2.0)
    )
    assert check.is_passed, check
