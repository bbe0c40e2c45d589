"""No body, whatever is in it, keeps others waiting, takes long or takes much memory.

All fields with all values: LARGE_BODIES=all, which takes some minutes.
"""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection

import pytest

from tests.e2e.large_values import TOTAL, Place, heavy_values, one_per_type, other_values, places
from tests.e2e.server import Server, eventually
from tests.e2e.watcher import Watcher, peak, processor_s, reset_peak

pytestmark = pytest.mark.alone

LIMIT_S, STALL_S, MEMORY = 1.0, 0.1, 64 * 2**20
TRIES = 3  # other programs also take the machine's time
IS_WHOLE = os.environ.get("LARGE_BODIES") == "all"
PLACES = places()
ROUTES = sorted({place.path for place in PLACES})
JSON = "application/json"
FORM = "multipart/form-data; boundary=b"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """With the page, whose report is a route of its own."""
    with Server(engine="scripted", script_words=("one ", "two"), page=True) as running:
        eventually(lambda: "is starting" not in running.get("/"), 120)
        yield running


@pytest.fixture(scope="module")
def watcher(server: Server) -> Iterator[Watcher]:
    with Watcher(server.port, server.pid) as watching:
        for path in ROUTES:  # what is done once is done
            ask(server, path, b"{}")
            ask(server, path, b'{"x": "' + b"A" * TOTAL + b'"}')
        yield watching


def ask(
    server: Server, path: str, body: bytes, content_type: str = JSON, **headers: str
) -> tuple[int, bytes, float]:
    """Status, answer, and seconds from the end of the request to that of the answer."""
    connection = HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request("POST", path, body, {"Content-Type": content_type, **headers})
        began_s = time.perf_counter()
        reply = connection.getresponse()
        return reply.status, reply.read(), time.perf_counter() - began_s
    finally:
        connection.close()


def check(server: Server, watcher: Watcher, what: str, send: Callable[[], float]) -> None:
    """send: returns the seconds until its answer; only those count in which the server worked."""
    for last in range(TRIES):
        watcher.longest_s()
        before, began_s = reset_peak(server.pid), processor_s(server.pid)
        answer_s = min(send(), processor_s(server.pid) - began_s)
        stall_s, memory = watcher.longest_s(), peak(server.pid) - before
        if answer_s < LIMIT_S and stall_s < STALL_S and memory < MEMORY:
            return
        if last == TRIES - 1:
            pytest.fail(
                f"{what}: answered after {answer_s:.2f} s, others waited {stall_s * 1000:.0f} ms, "
                f"{memory / 2**20:.0f} MiB more"
            )
        time.sleep(0.3)


def send_json(server: Server, place: Place, value: bytes) -> Callable[[], float]:
    body = place.body(value)

    def send() -> float:
        status, reply, seconds = ask(server, place.path, body)
        assert status < 500, (place.name, reply[:300])
        return seconds

    return send


@pytest.mark.parametrize("kind", sorted(heavy_values()))
def test_each_field_takes_the_most_that_is_parsed(
    server: Server, watcher: Watcher, kind: str
) -> None:
    value = heavy_values()[kind]
    for place in PLACES if IS_WHOLE else one_per_type(PLACES):
        check(server, watcher, f"{place.name} with {kind}", send_json(server, place, value))


# All routes take their JSON by the same way; the report does most with it.
@pytest.mark.parametrize("path", ROUTES if IS_WHOLE else ["/v1/generate", "/page/report"])
def test_what_is_refused_at_the_first_look(server: Server, watcher: Watcher, path: str) -> None:
    mine = [place for place in PLACES if place.path == path]
    named = [place for place in mine if place.name.endswith((".unknown", " unknown", " metadata"))]
    for kind, value in other_values().items():
        for place in mine if IS_WHOLE else named[:1]:
            check(server, watcher, f"{place.name} with {kind}", send_json(server, place, value))


def part(head: str, content: bytes = b"x") -> bytes:
    return b"--b\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (head.encode(), content)


def forms() -> dict[str, bytes]:
    prompt = part('name="prompt"')
    return {
        "tiny parts": part('name="modes"') * (TOTAL // 60),
        "empty parts": b"--b\r\n\r\n\r\n" * (TOTAL // 12),
        "commas": prompt + part('name="modes"', b"," * 120_000) * 60,
        "options": prompt + part('name="options"', b'{"a":' + b"[1," * 30_000),
        "numbers": prompt + part('name="options"', b'{"stop": [' + b"1," * 60_000 + b"1]}"),
        "one header": b"--b\r\nX: " + b"y" * TOTAL + b"\r\n\r\nx\r\n",
        "headers": b"--b\r\n" + b"X: y\r\n" * (TOTAL // 6) + b"\r\nx\r\n",
        "name": part('name="' + "n" * (TOTAL - 200) + '"'),
        "text": part('name="prompt"', b"A" * (TOTAL - 200)),
        "file": prompt + part('name="image"; filename="a"', b"A" * (20 * 2**20)),
        "files": prompt + part('name="image"; filename="a"', b"A" * 400_000) * 60,
        "breaks": b"\r\n" * (TOTAL // 2),
    }


@pytest.mark.parametrize("kind", sorted(forms()))
def test_forms(server: Server, watcher: Watcher, kind: str) -> None:
    body = forms()[kind] + b"--b--\r\n"

    def send(path: str) -> float:
        status, reply, seconds = ask(server, path, body, FORM)
        assert 400 <= status < 500, reply[:300]
        return seconds

    for path in ("/v1/generate", "/v1/compare"):
        check(server, watcher, f"{path} with a form of {kind}", lambda path=path: send(path))


PACKED: dict[str, tuple[Callable[[], bytes], int]] = {
    "a bomb": (lambda: gzip.compress(b" " * (200 * 2**20), 9), 413),
    "many empty files": (lambda: gzip.compress(b"") * (2**20), 400),
    "a picture": (lambda: gzip.compress(b'{"x": "' + b"A" * TOTAL + b'"}', 1), 400),
}


@pytest.mark.parametrize("kind", sorted(PACKED))
def test_packed_bodies(server: Server, watcher: Watcher, kind: str) -> None:
    pack, wanted = PACKED[kind]
    body = pack()

    def send() -> float:
        status, reply, seconds = ask(server, "/v1/generate", body, **{"Content-Encoding": "gzip"})
        assert status == wanted, reply[:300]
        return seconds

    check(server, watcher, kind, send)
