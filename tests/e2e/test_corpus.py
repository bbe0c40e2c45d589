"""Every file of the corpus on every route that takes an image, against a real server process."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.corpus.cases import Case, corpus
from tests.corpus.images import picture, png
from tests.corpus.names import NAMES
from tests.e2e.server import Server

MIB = 2**20
MAX_FRONT_BYTES = 2**30
MAX_BOMB_BYTES = 5 * MIB
NUM_CLIENTS = 4
# What no answer may hold: addresses in memory, paths, names of modules and of our own tree.
LEAKS = re.compile(
    rb"0x[0-9a-f]{4}|/usr|/work|/home|/root|/tmp|site-packages|\.py\b|Traceback|\bPIL\b|numpy"
    rb"|vlm_dlm[./]|\bapp[./]media|/etc/",
    re.IGNORECASE,
)
Post = Callable[[httpx.Client, bytes], httpx.Response]


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    with Server(engine="scripted") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Generator[httpx.Client]:
    with httpx.Client(base_url=server.base_url, timeout=60, trust_env=False) as made:
        yield made


def uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def post_chat(client: httpx.Client, data: bytes) -> httpx.Response:
    image = {"type": "image_url", "image_url": {"url": uri(data)}}
    content = [image, {"type": "text", "text": "What is this?"}]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 4}
    return client.post("/v1/chat/completions", json=body)


def post_stream(client: httpx.Client, data: bytes) -> httpx.Response:
    image = {"type": "image_url", "image_url": {"url": uri(data)}}
    body = {"messages": [{"role": "user", "content": [image]}], "max_tokens": 4, "stream": True}
    return client.post("/v1/chat/completions", json=body)


def post_compare(client: httpx.Client, data: bytes) -> httpx.Response:
    body = {"prompt": "What is this?", "images": [uri(data)], "modes": "ar"}
    return client.post("/v1/compare", json=body)


def post_form(client: httpx.Client, data: bytes, path: str) -> httpx.Response:
    fields = {"prompt": "What is this?"} | ({"modes": "ar"} if "compare" in path else {})
    return client.post(path, data=fields, files={"image": ("x.png", data, "image/png")})


ROUTES: dict[str, Post] = {
    "chat": post_chat,
    "chat, streamed": post_stream,
    "generate, form": partial(post_form, path="/v1/generate"),
    "compare": post_compare,
    "compare, form": partial(post_form, path="/v1/compare"),
}


def faults_of(reply: httpx.Response, statuses: Iterable[int]) -> Generator[str]:
    """What is wrong with an answer, in words."""
    if reply.status_code not in statuses:
        yield f"{reply.status_code}: {reply.text[:200]}"
    if found := LEAKS.search(reply.content):
        yield f"leaks {found.group()!r}"
    if reply.status_code != 200:
        error = reply.json().get("error", {})
        if set(error) != {"message", "type", "param", "code"} or not error["message"]:
            yield f"has an odd error body: {reply.text[:200]}"


def post_all(client: httpx.Client, post: Post, cases: Iterable[Case]) -> list[httpx.Response]:
    """The answers, in order."""
    with ThreadPoolExecutor(NUM_CLIENTS) as threads:
        return list(threads.map(lambda case: post(client, case.data), cases))


def is_well(server: Server) -> None:
    """The same engine since the start, nothing under way, the front within its memory."""
    health = json.loads(server.get("/health"))
    assert (health["status"], health["num_restarts"]) == ("ready", 0)
    assert (health["num_running"], health["num_waiting"]) == (0, 0)
    assert peak_bytes(server.pid) < MAX_FRONT_BYTES
    assert "Traceback" not in server.log, server.log


def peak_bytes(pid: int) -> int:
    """The most memory it ever held, or since `forget_peak`."""
    (line,) = re.findall(r"VmHWM:\s+([0-9]+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(line) * 1024


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def test_a_bomb_costs_the_server_next_to_nothing(server: Server, client: httpx.Client) -> None:
    bomb = png(13_000, 13_000, depth=1)
    assert len(bomb) < 25_000
    for post in ROUTES.values():
        for _ in range(5):  # what the first pictures cost is no bomb's fault
            assert post(client, picture()).status_code == 200
            assert post(client, b"x").status_code == 415
    for name, post in ROUTES.items():
        forget_peak(server.pid)
        before = peak_bytes(server.pid)
        reply = post(client, bomb)
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, "image_too_large"), name
        assert peak_bytes(server.pid) - before <= MAX_BOMB_BYTES, name


@pytest.mark.parametrize("route", ROUTES)
def test_every_file_gets_the_answer_of_its_table(
    server: Server, client: httpx.Client, route: str
) -> None:
    cases = corpus()
    assert len(cases) >= 150
    engines = server.engines()
    replies = post_all(client, ROUTES[route], cases)
    faults = [
        f"{case.name}: {fault}"
        for case, reply in zip(cases, replies, strict=True)
        for fault in faults_of(reply, case.statuses)
    ]
    assert faults == []
    is_well(server)
    assert server.engines() == engines


def test_files_may_have_any_name(server: Server, client: httpx.Client) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=line"}
    head = b'--line\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nWhat is this?\r\n'
    faults: list[str] = []
    for path in ("/v1/generate", "/v1/compare"):
        for name, statuses in NAMES:
            part = b'--line\r\nContent-Disposition: form-data; name="image"; filename' + name
            body = head + part + b"\r\n\r\n" + picture() + b"\r\n--line--\r\n"
            reply = client.post(path, content=body, headers=headers)
            faults += [f"{path} {name[:60]!r} {fault}" for fault in faults_of(reply, statuses)]
            if name[2:].strip(b'".') and len(name) < 4000 and name in reply.content:
                faults.append(f"{path} {name!r} is repeated in the answer")
    assert faults == []
    is_well(server)
