"""Who leaves, stops or is refused: the engine does nothing for people who are not there."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.e2e.server import Server, eventually
from tests.integration.app.page_tab import Tab, error_of, wait_for_page

STEP_S = 0.1
WORDS = tuple(f"word{number}" for number in range(300))
NO_IMAGES = "[]"
LEFT_S = 1.0
_PROGRAM = """
import sys, time
from gradio_client import Client
from gradio_client.utils import Status
job = Client(sys.argv[1], verbose=False).submit("Describe.", api_name="/generate")
while job.status().code is not Status.PROCESSING:
    time.sleep(0.01)
print("followed", flush=True)
job.result()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Answers of half a minute, four at once. Leave it without requests."""
    with Server(
        page=True, engine="scripted", script_words=WORDS, script_step_s=STEP_S, max_running=4
    ) as found:
        wait_for_page(found)
        yield found


def ask(tab: Tab) -> None:
    reply = tab.join("ask", NO_IMAGES, None, "Describe.", "ar", 300, 0, 0)
    assert reply.status_code == 200, reply.text


def running(server: Server) -> float:
    return server.gauge("num_requests_running")


def wait_for_running(server: Server, number: int) -> None:
    eventually(lambda: running(server) == number, 10)


def test_closing_the_tab_ends_its_chat(server: Server) -> None:
    with Tab(server).opened() as tab:
        ask(tab)
        tab.follow()
        wait_for_running(server, 1)
    assert eventually(lambda: running(server) == 0, 5) < LEFT_S


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("run_sweep", ("", "Describe.", 300, "diffusion", ["0.9"], ["8"])),
        ("start_round", ("", "Describe.", 300, ["ar", "diffusion"], 0, 0)),
    ],
)
def test_closing_the_tab_ends_its_other_runs(
    server: Server, name: str, data: tuple[object, ...]
) -> None:
    with Tab(server).opened() as tab:
        assert tab.join(name, *data).status_code == 200
        tab.follow()
        wait_for_running(server, 1)
    assert eventually(lambda: running(server) == 0, 5) < LEFT_S


def test_a_program_that_ends_ends_its_run(server: Server) -> None:
    command = [sys.executable, "-c", _PROGRAM, server.base_url]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    try:
        assert program.stdout.readline() == "followed\n"
        wait_for_running(server, 1)
    finally:
        program.kill()
        program.communicate()
    assert eventually(lambda: running(server) == 0, 5) < LEFT_S


def test_stop_ends_the_engine_and_keeps_what_was_written(server: Server) -> None:
    with Tab(server).opened() as tab:
        ask(tab)
        found: list[dict[str, object]] = []
        reader = threading.Thread(target=lambda: found.extend(tab.messages()))
        reader.start()
        wait_for_running(server, 1)
        eventually(lambda: any("word1" in str(message) for message in found), 10)
        tab.join("stop")
        assert eventually(lambda: running(server) == 0, 5) < LEFT_S
        reader.join(10)
        assert not reader.is_alive()
        assert "stopped" in str(found)
        assert "error" not in {message["msg"] for message in found}


def test_a_visitor_ends_and_sees_only_their_own(server: Server) -> None:
    with Tab(server).opened() as other, Tab(server).opened() as tab:
        ask(other)
        other.follow()
        ask(tab)
        wait_for_running(server, 2)
        tab.join("stop")
        own = list(tab.messages())
        wait_for_running(server, 1)
        events = {message.get("event_id") for message in own if message.get("event_id")}
        assert len(events) == 2  # the answer and the stop
    eventually(lambda: running(server) == 0, 5)


def test_one_answer_at_a_time_in_one_tab(server: Server) -> None:
    with Tab(server).opened() as tab:
        ask(tab)
        wait_for_running(server, 1)
        ask(tab)
        found: list[dict[str, object]] = []
        for message in tab.messages():
            found.append(message)
            if message["msg"] == "process_completed":
                break
        assert "press Stop first" in str(error_of(found))
    eventually(lambda: running(server) == 0, 5)


def test_stop_works_while_many_others_wait() -> None:
    with Server(
        page=True,
        engine="scripted",
        script_words=WORDS,
        script_step_s=STEP_S,
        max_running=1,
        max_waiting=200,
    ) as server:
        wait_for_page(server)
        tabs = [Tab(server) for _ in range(50)]
        for tab in tabs:
            ask(tab)
        wait_for_running(server, 1)
        eventually(lambda: server.gauge("num_requests_waiting") == len(tabs) - 1, 10)
        for tab in reversed(tabs):
            tab.join("stop")
        assert eventually(lambda: running(server) == 0, 10) < LEFT_S
        assert server.gauge("num_requests_waiting") == 0
        for tab in tabs:
            tab.close()


def test_a_server_that_ends_waits_for_its_page_and_takes_nothing_new() -> None:
    with Server(
        page=True, engine="scripted", script_words=WORDS[:20], script_step_s=STEP_S, drain_s=20
    ) as server:
        wait_for_page(server)
        with Tab(server).opened() as tab, Tab(server).opened() as late:
            ask(tab)
            wait_for_running(server, 1)
            server.signal(signal.SIGTERM)
            eventually(lambda: "Ending: 1 open requests" in server.log, 5)
            refused = late.join("ask", NO_IMAGES, None, "Describe.", "ar", 300, 0, 0)
            assert refused.status_code == 503
            found = list(tab.messages())
            assert error_of(found) is None
            assert "word19" in str(found)
        assert server.wait(20) == 0
