"""Calls of the page and of its tools, full of values, keep nobody waiting."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.e2e.large_requests import ask, check
from tests.e2e.large_values import HEAVY_VALUES
from tests.e2e.server import Server, eventually
from tests.e2e.watcher import Watcher

pytestmark = pytest.mark.alone

JOIN, TOOLS = "/gradio_api/queue/join", "/gradio_api/mcp/"
HAS_MCP = find_spec("mcp") is not None
ACCEPT = {"Accept": "application/json, text/event-stream"}
# Where a value stands in the arguments of an endpoint, one within the other.
DEEP = {
    "report": (b'{"record": {"a": ', b"}}"),
    "chat": (b'{"messages": [{"role": "user", "content": ', b"}]}"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    settings = {"engine": "scripted", "script_words": ("one ", "two"), "page": True}
    with Server(page_mcp=HAS_MCP, **settings) as running:
        eventually(lambda: "is starting" not in running.get("/"), 120)
        yield running


@pytest.fixture(scope="module")
def watcher(server: Server) -> Iterator[Watcher]:
    with Watcher(server.port, server.pid) as watching:
        yield watching


@pytest.fixture(scope="module")
def numbers(server: Server) -> dict[str, int]:
    """Of the page's functions."""
    parts = json.loads(server.get("/config"))["dependencies"]
    return {part["api_name"]: part["id"] for part in parts}


def send(server: Server, path: str, body: bytes) -> float:
    status, reply, seconds = ask(server, path, body, **ACCEPT)
    assert status in (200, 400, 413), reply[:300]
    return seconds


def call(number: int, kind: str, data: bytes, event: bytes = b"null") -> bytes:
    session = "".join(filter(str.isalnum, kind)).encode()
    head = b'{"fn_index": %d, "session_hash": "%s", "data": ' % (number, session)
    return head + data + b', "event_data": ' + event + b"}"


@pytest.mark.parametrize("kind", sorted(HEAVY_VALUES))
def test_calls_of_the_page(
    server: Server, watcher: Watcher, numbers: dict[str, int], kind: str
) -> None:
    value = HEAVY_VALUES[kind]()
    bodies = {
        "a report": call(numbers["report"], kind, b'[{"a": ' + value + b'}, ""]'),
        "a chat": call(numbers["chat"], kind, b'[[{"content": ' + value + b'}], "", {}]'),
        "messages": call(numbers["chat"], kind, b"[" + value + b', "", {}]'),
        "votes": call(numbers["count"], kind, b"[[[" + value + b"]]]"),
        "a control": call(numbers["show_axes"], kind, b"[" + value + b"]"),
        "an event": call(numbers["fill"], kind, b"[]", value),
    }
    for what, body in bodies.items():
        check(server, watcher, f"{what} with {kind}", lambda b=body: send(server, JOIN, b))


@pytest.mark.skipif(not HAS_MCP, reason="the package mcp is not installed")
@pytest.mark.parametrize("kind", sorted(HEAVY_VALUES))
def test_messages_of_mcp(server: Server, watcher: Watcher, kind: str) -> None:
    value = HEAVY_VALUES[kind]()
    start = b'{"jsonrpc": "2.0", "id": 1, "method": '
    head = start + b'"tools/call", "params": {"name": "%s", "arguments": '
    bodies = {
        name: head % name.encode() + before + value + after + b"}}"
        for name, (before, after) in DEEP.items()
    }
    bodies["messages"] = head % b"chat" + b'{"messages": ' + value + b"}}}"
    bodies["no call"] = start + b'"initialize", "params": ' + value + b"}"
    for what, body in bodies.items():
        check(server, watcher, f"{what} with {kind}", lambda b=body: send(server, TOOLS, b))
