from __future__ import annotations

import asyncio

from tests.e2e.faults.ending import check_drain, check_second_signal, check_unanswered
from tests.e2e.server import Server
from tests.e2e.workload import chat


def test_open_streams_finish_after_sigterm(scripted_server: Server) -> None:
    check = asyncio.run(check_drain(scripted_server, 20, chat()))
    assert check.is_passed, check


def test_a_second_sigterm_ends_streams_with_a_last_event(scripted_server: Server) -> None:
    check = asyncio.run(check_second_signal(scripted_server, 20, chat()))
    assert check.is_passed, check


def test_a_second_sigterm_ends_requests_that_have_no_answer_yet(scripted_server: Server) -> None:
    check = asyncio.run(check_unanswered(scripted_server))
    assert check.is_passed, check
