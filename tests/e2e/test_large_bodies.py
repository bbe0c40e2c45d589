"""No body, whatever is in it, keeps others waiting, takes long or takes much memory.

All fields with all values: LARGE_BODIES=all, which takes some minutes.
"""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.large_requests import ask, check
from tests.e2e.large_values import (
    HEAVY_VALUES,
    OTHER_VALUES,
    TOTAL,
    Place,
    one_per_type,
    places,
)
from tests.e2e.server import Server, eventually
from tests.e2e.watcher import Watcher
from tests.integration.app.page_tab import Tab, error_of

pytestmark = pytest.mark.alone

IS_WHOLE = os.environ.get("LARGE_BODIES") == "all"
PLACES = places()
ROUTES = sorted({place.path for place in PLACES})
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


def send_json(server: Server, place: Place, value: bytes) -> Callable[[], float]:
    body = place.body(value)

    def send() -> float:
        status, reply, seconds = ask(server, place.path, body)
        assert status < 500, (place.name, reply[:300])
        return seconds

    return send


@pytest.mark.parametrize("kind", sorted(HEAVY_VALUES))
def test_each_field_takes_the_most_that_is_parsed(
    server: Server, watcher: Watcher, kind: str
) -> None:
    value = HEAVY_VALUES[kind]()
    for place in PLACES if IS_WHOLE else one_per_type(PLACES):
        check(server, watcher, f"{place.name} with {kind}", send_json(server, place, value))


# All routes take their JSON by the same way; the report does most with it.
@pytest.mark.parametrize("path", ROUTES if IS_WHOLE else ["/v1/generate", "/page/report"])
def test_what_is_refused_at_the_first_look(server: Server, watcher: Watcher, path: str) -> None:
    mine = [place for place in PLACES if place.path == path]
    named = [place for place in mine if place.name.endswith((".unknown", " unknown", " metadata"))]
    for kind, make in OTHER_VALUES.items():
        value = make()
        for place in mine if IS_WHOLE else named[:1]:
            check(server, watcher, f"{place.name} with {kind}", send_json(server, place, value))


def part(head: str, content: bytes = b"x") -> bytes:
    return b"--b\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (head.encode(), content)


PROMPT = part('name="prompt"')
FORMS: dict[str, Callable[[], bytes]] = {
    "tiny parts": lambda: part('name="modes"') * (TOTAL // 60),
    "empty parts": lambda: b"--b\r\n\r\n\r\n" * (TOTAL // 12),
    "commas": lambda: PROMPT + part('name="modes"', b"," * 120_000) * 60,
    "options": lambda: PROMPT + part('name="options"', b'{"a":' + b"[1," * 30_000),
    "numbers": lambda: PROMPT + part('name="options"', b'{"stop": [' + b"1," * 60_000 + b"1]}"),
    "one header": lambda: b"--b\r\nX: " + b"y" * TOTAL + b"\r\n\r\nx\r\n",
    "headers": lambda: b"--b\r\n" + b"X: y\r\n" * (TOTAL // 6) + b"\r\nx\r\n",
    "name": lambda: part('name="' + "n" * (TOTAL - 200) + '"'),
    "text": lambda: part('name="prompt"', b"A" * (TOTAL - 200)),
    "file": lambda: PROMPT + part('name="image"; filename="a"', b"A" * (20 * 2**20)),
    "files": lambda: PROMPT + part('name="image"; filename="a"', b"A" * 400_000) * 60,
    "breaks": lambda: b"\r\n" * (TOTAL // 2),
}


@pytest.mark.parametrize("kind", sorted(FORMS))
def test_forms(server: Server, watcher: Watcher, kind: str) -> None:
    body = FORMS[kind]() + b"--b--\r\n"

    def send(path: str) -> float:
        status, reply, seconds = ask(server, path, body, FORM)
        assert 400 <= status < 500, reply[:300]
        return seconds

    for path in ("/v1/generate", "/v1/compare"):
        check(server, watcher, f"{path} with a form of {kind}", lambda path=path: send(path))


EVENTS: dict[str, Callable[[], Any]] = {
    "JSON within a text": lambda: "[" + "[]," * (2 * 2**20) + "[]]",
    "a text": lambda: "A" * (6 * 2**20),
    "a large number": lambda: '{"answers": 1' + "0" * 4000 + "}",
    "a part of the page": lambda: {"__type__": "update", "label": "x" * 2**20},
    "runs": lambda: {"answers": {"ar": {}}, "runs": [{"ar": {}} for _ in range(900)]},
    "points": lambda: {"answers": {"ar": {"points": [[1, 2]] * 900}}},
}


@pytest.mark.parametrize("kind", EVENTS)
def test_what_a_finished_comparison_tells_the_page(
    server: Server, watcher: Watcher, kind: str
) -> None:
    event = EVENTS[kind]()

    def send() -> float:
        with Tab(server).opened() as tab:
            began_s = time.perf_counter()
            reply = tab.join("fill", event=event)
            assert reply.status_code == 200, reply.text
            messages = list(tab.messages())
            assert error_of(messages) is None
            assert len(json.dumps(messages)) < 100_000
            return time.perf_counter() - began_s

    check(server, watcher, f"a comparison of {kind}", send)
    assert "Traceback" not in server.log


def one_vote(number: int, question: str, mode: str) -> dict[str, Any]:
    names = ("time", "question", "vote", "winner", "mode_a", "mode_b")
    more = ("tokens_per_second_a", "tokens_per_second_b", "is_same_text")
    texts = dict(zip(names, ("now", question, "A", mode, mode, "ar"), strict=True))
    return {**texts, **dict.fromkeys(more, number)}


VOTES: dict[str, Callable[[], Any]] = {
    "long ones": lambda: [one_vote(n, "x" * 5000, "ar") for n in range(1000)],
    "many modes": lambda: [one_vote(n, "x", f"{n}" + "m" * 5000) for n in range(1000)],
    "fitting ones": lambda: [one_vote(n, "x" * 900, f"{n}" * 25) for n in range(1000)],
}


@pytest.mark.parametrize("kind", VOTES)
@pytest.mark.parametrize("name", ["count", "to_csv"])
def test_votes_that_a_browser_remembers(
    server: Server, watcher: Watcher, name: str, kind: str
) -> None:
    votes = VOTES[kind]()

    def send() -> float:
        with Tab(server).opened() as tab:
            began_s = time.perf_counter()
            messages = tab.press(name, votes)
            assert error_of(messages) is None
            return time.perf_counter() - began_s

    check(server, watcher, f"{name} of {kind}", send)


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
