"""Calls of the page through the whole application, as the server runs it."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from sys import getsizeof
from typing import Any
from uuid import uuid4

import gradio
import httpx
import pytest

from tests.api.serving import LiveServer, live_server, png, until
from vlm_dlm.preflight import Checkpoint
from vlm_dlm_app.http.held_bytes import Hold
from vlm_dlm_app.page.sessions import Sessions
from vlm_dlm_app.page.votes import COLUMNS
from vlm_dlm_app.settings.model import Settings

API = "/gradio_api"
FRONTEND = Path(gradio.__file__).parent / "templates" / "frontend"
MIB = 2**20


@pytest.fixture(scope="module")
def server(checkpoint: Checkpoint) -> Generator[LiveServer]:
    settings = Settings(max_held_body_bytes=64 * MIB)  # half of it for one client
    with live_server(checkpoint, settings, has_page=True) as running:
        until(lambda: "gradio_config" in running.http.get(f"{running.url}/").text, 60)
        yield running


def function(server: LiveServer, name: str) -> int:
    """The number under which a named function is called."""
    found = server.http.get(f"{server.url}/config").json()["dependencies"]
    return next(its["id"] for its in found if its["api_name"] == name)


def test_every_post_of_the_page_is_answered(server: LiveServer) -> None:
    join = {"data": [], "fn_index": function(server, "modes"), "session_hash": "s"}
    bodies = {
        f"{API}/queue/join": (join, 200),
        f"{API}/call/modes": ({"data": []}, 200),
        f"{API}/cancel": ({"session_hash": "s", "fn_index": 0, "event_id": "x"}, 200),
        f"{API}/reset": ({"event_id": "x"}, 200),
        "/page/free": ({"paths": []}, 204),
    }
    for path, (body, status) in bodies.items():
        reply = server.http.post(server.url + path, json=body)
        assert reply.status_code == status, (path, reply.text)


@pytest.mark.parametrize("path", ["/", "/config", f"{API}/info"])
def test_large_documents_cost_little(server: LiveServer, path: str) -> None:
    """Of everybody's event loop: each takes Gradio 6 to 25 ms."""
    first = server.http.get(server.url + path)
    assert first.status_code == 200
    began_s = time.process_time()
    for _ in range(50):
        assert server.http.get(server.url + path).text == first.text
    small_s = time.process_time() - began_s
    began_s = time.process_time()
    for _ in range(50):
        server.http.get(f"{server.url}/health/live")
    assert small_s < 2 * (time.process_time() - began_s) + 0.1
    other = server.http.get(server.url + path, headers={"Host": f"localhost:{server.port}"})
    assert other.text == first.text.replace("127.0.0.1", "localhost")


def test_a_session_notes_nothing_of_how_parts_look(server: LiveServer) -> None:
    assert join(server, "modes", []).status_code == 200
    wait_for_calls(server)
    states = list(blocks_of(server).state_holder.session_data.values())
    state = states[-1]
    assert not dict.__len__(state.config_values)


def test_files_are_packed_once_for_all_who_take_it(server: LiveServer) -> None:
    """In a thread; Gradio packs them anew for each, on everybody's event loop."""
    page = server.http.get(f"{server.url}/").text
    names = sorted(set(re.findall(r"/assets/[\w.-]+\.js", page)) | {"/theme.css"})
    for path in names[:3] + names[-1:]:
        plain = server.http.get(server.url + path, headers={"Accept-Encoding": "br, identity"})
        assert "content-encoding" not in plain.headers
        packed = server.http.get(server.url + path, headers={"Accept-Encoding": "br, gzip"})
        assert packed.content == plain.content
        assert packed.headers["content-encoding"] == "gzip"
        assert int(packed.headers["content-length"]) < len(plain.content) // 2
        assert packed.headers["content-type"] == plain.headers["content-type"]
    largest = max((FRONTEND / "assets").glob("*.js"), key=lambda path: path.stat().st_size)
    address = f"{server.url}/assets/{largest.name}"
    gzipped = {"Accept-Encoding": "gzip"}
    first = server.http.get(address, headers=gzipped).content
    assert first == largest.read_bytes()
    began_s = time.process_time()
    for _ in range(10):
        with server.http.stream("GET", address, headers=gzipped) as reply:
            assert reply.headers["content-encoding"] == "gzip"
            for _ in reply.iter_raw():
                pass
    assert time.process_time() - began_s < 1.0  # 3 where each is packed anew


@pytest.mark.parametrize("is_read", [True, False])
def test_several_streams_of_a_session_all_end_whole(
    server: LiveServer, caplog: pytest.LogCaptureFixture, is_read: bool
) -> None:
    session = uuid4().hex
    body = {"data": [], "fn_index": function(server, "modes"), "session_hash": session}
    assert server.http.post(f"{server.url}{API}/queue/join", json=body).status_code == 200
    head = (
        f"GET {API}/queue/data?session_hash={session} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{server.port}\r\nConnection: close\r\n\r\n"
    )
    with ExitStack() as opened:
        streams = [
            opened.enter_context(socket.create_connection(("127.0.0.1", server.port), 60))
            for _ in range(4)
        ]
        for stream in streams:
            stream.sendall(head.encode())
        for stream in streams if is_read else ():
            answer = stream.makefile("rb").read()
            assert b"close_stream" in answer
            assert answer.endswith(b"\n\n\r\n0\r\n\r\n")
    blocks = blocks_of(server)
    until(lambda: session not in blocks._queue.pending_messages_per_session, 60)
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


def memory() -> int:
    """Bytes of this process, the server in it included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def upload(server: LiveServer, num_bytes: int) -> str:
    """Where a picture of that size lies now."""
    data = png().ljust(num_bytes, b"\0")
    reply = server.http.post(f"{server.url}{API}/upload", files={"files": ("a.png", data)})
    assert reply.status_code == 200, reply.text
    return reply.json()[0]


def test_slow_readers_of_a_picture_take_no_memory(server: LiveServer) -> None:
    path = upload(server, 10 * MIB)
    before = memory()
    with ExitStack() as opened:
        for _ in range(30):
            reader = opened.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", server.port))
            head = f"GET {API}/file={path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n"
            reader.sendall(head.encode())
            assert reader.recv(15) == b"HTTP/1.1 200 OK"
        time.sleep(0.5)
        assert memory() - before < 60 * MIB  # 300 with a copy for each
    shown = server.http.get(f"{server.url}{API}/file={path}")
    assert len(shown.content) == 10 * MIB


def join(server: LiveServer, name: str, data: list[Any], event: Any = None) -> httpx.Response:
    """A call in a session of its own."""
    body = {
        "data": data,
        "fn_index": function(server, name),
        "session_hash": uuid4().hex,
        "event_data": event,
    }
    return server.http.post(f"{server.url}{API}/queue/join", json=body)


def blocks_of(server: LiveServer) -> Any:
    """Gradio's part of the page."""
    return server.app.state.page._app.routes[-1].app.get_blocks()


def wait_for_calls(server: LiveServer) -> Any:
    """Until all have ended: while one runs, what it got counts beside what it gives."""
    queue = blocks_of(server)._queue
    until(lambda: not queue.event_ids_to_events, 60)
    return queue


@pytest.fixture(autouse=True)
def nothing_held(server: LiveServer) -> Generator[None]:
    """After each test, as if all answers had been read."""
    yield
    wait_for_calls(server).pending_messages_per_session.clear()
    until(lambda: server.services.held.num_bytes == 0, 60)


def test_answers_that_nobody_reads_have_an_account(server: LiveServer) -> None:
    """The function gives what it got, as a table of a megabyte."""
    values = "now", "x" * 900, "A", "ar", "ar", "diffusion", 1.0, 2.0, False
    votes = [dict(zip(COLUMNS, values, strict=True))] * 1000
    statuses: list[int] = []
    for _ in range(40):
        statuses.append(join(server, "to_csv", [votes]).status_code)
        wait_for_calls(server)
    assert statuses[:10] == [200] * 10
    assert 429 in statuses[20:]  # some thirty fit
    assert 20 * MIB < server.services.held.num_bytes <= 32 * MIB


def test_a_call_counts_what_is_kept_of_it(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists, which take more in memory than they do as JSON."""
    held: list[int] = []
    keep = Sessions.keep

    def noted(self: Sessions, event_id: str, hold: Hold) -> None:
        held.append(hold.num_bytes)
        keep(self, event_id, hold)

    monkeypatch.setattr(Sessions, "keep", noted)
    assert join(server, "fill", [], [[]] * 40_000).status_code == 200
    assert held[0] > 40_000 * getsizeof([])


def test_a_picture_named_often_is_in_memory_once_at_most(server: LiveServer) -> None:
    path = upload(server, 10 * MIB)
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    part = {"type": "image_url", "image_url": {"url": file}}
    messages = [{"role": "user", "content": [part] * 8}]
    before = memory()
    replies = [
        server.http.post(f"{server.url}{API}/call/chat", json={"data": [messages, "", {}]})
        for _ in range(4)
    ]
    assert memory() - before < 60 * MIB
    event = replies[0].json()["event_id"]
    told = server.http.get(f"{server.url}{API}/call/chat/{event}").text
    assert "event: error" in told
    assert "much is held as fits into memory" in told
