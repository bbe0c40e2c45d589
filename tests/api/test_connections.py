"""How many connections there may be, and how long one may be idle."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Generator
from contextlib import ExitStack

import pytest

from tests.api.serving import until
from tests.api.test_upgrades import LAST, echo
from tests.api.wire import answers, exchange, wire_server
from vlm_dlm_app.http.networks import network_of
from vlm_dlm_app.settings.model import Settings
from vlm_dlm_app.wire.connections import Connections
from vlm_dlm_app.wire.protocol import BoundedProtocol, bounded_protocol

MAX_CLIENT = 4
KEPT = b"GET /kept HTTP/1.1\r\nHost: a\r\n\r\n"


class Stub:
    """A connection that is only counted."""

    def __init__(self) -> None:
        self.is_closed = False

    def close_idle(self) -> None:
        self.is_closed = True


def fill(registry: Connections, client: str, number: int) -> list[Stub]:
    stubs = [Stub() for _ in range(number)]
    assert [registry.add(stub, client) for stub in stubs] == [None] * number
    return stubs


def test_each_client_has_its_share() -> None:
    registry = Connections(max_all=5, max_client=2)
    first, _ = fill(registry, "a", 2)
    refused = Stub()
    error = registry.add(refused, "a")
    assert error is not None
    assert (error.status, error.code) == (429, "too_many_connections")
    assert "max_client_connections" in error.message
    assert registry.num_refused == 1
    fill(registry, "b", 2)
    fill(registry, "c", 1)
    error = registry.add(Stub(), "d")
    assert error is not None
    assert (error.status, error.code) == (503, "connections_exhausted")
    assert "max_connections" in error.message
    for _ in range(2):
        registry.remove(refused)
        registry.remove(first)
    assert (len(registry), registry.num_refused) == (4, 1)
    fill(registry, "a", 1)


def test_a_trusted_proxy_may_have_as_many_as_all() -> None:
    registry = Connections(5, 2, is_proxy=lambda address: address == "10.0.0.1")
    fill(registry, "10.0.0.1", 4)
    fill(registry, "10.0.0.2", 1)
    error = registry.add(Stub(), "10.0.0.1")
    assert error is not None
    assert error.code == "connections_exhausted"


def test_the_longest_idle_makes_room() -> None:
    registry = Connections(max_all=3, max_client=2)
    (other,) = fill(registry, "b", 1)
    first, second = fill(registry, "a", 2)
    for stub in (other, second, first):
        registry.note_idle(stub)
    registry.note_busy(second)
    registry.note_idle(second)
    fill(registry, "a", 1)  # too many of this client: its own go first
    assert (other.is_closed, first.is_closed, second.is_closed) == (False, True, False)
    fill(registry, "c", 1)  # too many of all
    assert (other.is_closed, second.is_closed) == (True, False)
    assert len(registry) == 3


def test_a_network_of_ipv6_is_one_client() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::2:3") != network_of("2001:db8:1::1")
    assert network_of("10.0.0.1") != network_of("10.0.0.2")


@pytest.fixture
def registry() -> Connections:
    return Connections(max_all=64, max_client=MAX_CLIENT)


@pytest.fixture(params=["asyncio", "uvloop"])
def port(registry: Connections, request: pytest.FixtureRequest) -> Generator[int]:
    made = bounded_protocol(30.0, registry)
    with wire_server(echo, made, keep_alive_s=1, loop=request.param) as found:
        yield found


def test_one_too_many_is_told_so_and_logged_once(
    port: int, registry: Connections, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack, caplog.at_level(logging.INFO, "vlm_dlm_app"):
        for _ in range(MAX_CLIENT):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        until(lambda: len(registry) == MAX_CLIENT)
        (answer,) = answers(exchange(port, [LAST]))
        assert answer.status == 429
        assert json.loads(answer.body)["error"]["code"] == "too_many_connections"
        assert (answer.headers["connection"], answer.headers["retry-after"]) == ("close", "1")
        (line,) = [r.getMessage() for r in caplog.records if r.name.startswith("vlm_dlm_app")]
        assert line.endswith("status=429 cause=too_many_connections")
    until(lambda: len(registry) == 0)
    assert answers(exchange(port, [LAST]))[0].status == 200


def test_idle_ones_give_way_and_lose_nothing(port: int, registry: Connections) -> None:
    with ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            for _ in range(MAX_CLIENT)
        ]
        for connection in idle:
            connection.sendall(KEPT)
            assert b"/kept" in connection.recv(65536)
        assert answers(exchange(port, [LAST]))[0].status == 200
        assert idle[0].recv(1) == b""  # the first to be idle
        idle[1].sendall(LAST)
        assert b"/last" in idle[1].recv(65536)


def test_an_idle_connection_ends_in_time(port: int) -> None:
    began = time.monotonic()
    (answer,) = answers(exchange(port, [KEPT]))
    assert answer.status == 200
    assert 0.8 < time.monotonic() - began < 5


def test_a_flood_of_refusals_is_cut_short(registry: Connections) -> None:
    made = bounded_protocol(30.0, registry)
    with wire_server(echo, made) as port, ExitStack() as stack:
        held = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            for _ in range(MAX_CLIENT + 100)
        ]
        until(lambda: len(registry) == MAX_CLIENT)
        said = []
        for connection in held[MAX_CLIENT:]:
            try:
                said.append(connection.recv(65536))
            except ConnectionError:
                said.append(b"")
        assert sum(bool(text) for text in said) >= 60
        until(lambda: registry.num_refused == 0)  # also of those who never close


def test_the_defaults_leave_half_to_others() -> None:

    settings = Settings()
    assert 2 * settings.max_client_connections == settings.max_connections
    assert BoundedProtocol.registry.max_all >= settings.max_connections
