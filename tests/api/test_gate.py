"""Parts of the middleware on their own: names of clients, foreign hosts, answers that break off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from tests.api.serving import LiveServer, live_server
from vlm_dlm.preflight import Checkpoint
from vlm_dlm_app.http.auth import Clients
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.middleware.gate import Gate, is_loopback
from vlm_dlm_app.http.middleware.guard import Guard
from vlm_dlm_app.settings.model import Settings


def test_clients_are_told_apart_by_key_then_by_address() -> None:
    def scope(address: str, *keys: str) -> Scope:
        headers = [(b"authorization", f"Bearer {key}".encode()) for key in keys]
        return {"type": "http", "path": "/v1/models", "headers": headers, "client": (address, 1)}

    keyed, plain = Clients(["a", "b"]), Clients([])
    names = [keyed.name(scope(address, key)) for address in ("1.1.1.1", "2.2.2.2") for key in "ab"]
    assert names[:2] == names[2:]
    assert len(set(names)) == 2
    assert not any(name in ("a", "b") for name in names)
    assert plain.name(scope("1.1.1.1", "made up")) == plain.name(scope("1.1.1.1", "another"))
    assert plain.name(scope("2001:db8::1")) == plain.name(scope("2001:db8::ffff"))
    assert plain.name(scope("2001:db8::1")) != plain.name(scope("2001:db8:0:1::1"))
    with pytest.raises(ApiError):
        keyed.name(scope("1.1.1.1"))


def test_an_answer_that_began_breaks_off_without_a_second_one() -> None:
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("late")

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(Guard(app)(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "localhost", "127.8.8.8"])
def test_loopback_is_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_other_addresses_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("bound_to", "allowed", "host", "is_fine"),
    [
        ("0.0.0.0", (), "any.example", True),
        ("0.0.0.0", ("own.example",), "own.example:8000", True),
        ("0.0.0.0", ("own.example",), "any.example", False),
        ("127.0.0.1", ("own.example",), "own.example", True),
        ("127.0.0.1", (), "own.example", False),
    ],
)
def test_hosts_follow_the_binding(
    bound_to: str, allowed: tuple[str, ...], host: str, is_fine: bool
) -> None:
    passed: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope)

    async def nothing(*_: Any) -> Any: ...

    headers = [(b"host", host.encode())]
    scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": headers}
    gate = Gate(app, bound_to, allowed)
    if is_fine:
        asyncio.run(gate(scope, nothing, nothing))
        assert passed
    else:
        with pytest.raises(ApiError):
            asyncio.run(gate(scope, nothing, nothing))


PROBES = [
    "/health", "/health/live", "/health/ready", "/v1/health/live", "/v1/health/ready", "/metrics",
]  # fmt: skip


@pytest.mark.parametrize("allowed", [(), ("vlm.example.org",)], ids=["loopback", "allowed_hosts"])
def test_probes_come_by_any_name_and_nobody_else(
    checkpoint: Checkpoint, allowed: tuple[str, ...]
) -> None:
    with live_server(checkpoint, Settings(allowed_hosts=allowed)) as server:
        foreign = {"Host": "10.244.0.5:8000"}
        for path in PROBES:
            assert server.http.get(server.url + path, headers=foreign).status_code == 200, path
            assert server.http.head(server.url + path, headers=foreign).status_code == 200, path
        documented = set(server.app.openapi()["paths"])
        assert set(PROBES) == {p for p in documented if "health" in p or "metrics" in p} | {
            "/metrics"
        }
        others = [*(documented - set(PROBES)), "/health/", "/metrics/x", "/v1/health/x", "/healthz"]
        for path in others:
            for method in ("GET", "POST", "OPTIONS"):
                said = server.http.request(method, server.url + path, headers=foreign)
                assert said.json()["error"]["code"] == "host_not_allowed", (method, path)
                assert "allowed_hosts" in said.json()["error"]["message"]
        said = server.http.post(server.url + "/health", headers=foreign)
        assert said.status_code == 403


def test_a_refused_origin_names_the_setting(server: LiveServer) -> None:
    said = server.http.post(server.url + "/v1/generate", headers={"Origin": "http://e.example"})
    assert said.status_code == 403
    assert "allow_origins" in said.json()["error"]["message"]
