"""What every request passes before a route sees it: keys, origins, hosts, bounds."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import pytest
from pydantic import SecretStr

from tests.api.serving import LiveServer, live_server, until
from vlm_dlm.preflight import Checkpoint
from vlm_dlm_app.settings.model import Settings

MAX_BODY = 200_000
PAGE = "https://page.example"
KEYS = ("key-one", "key-two")
CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
SETTINGS = Settings(
    api_keys=tuple(SecretStr(key) for key in KEYS),
    allow_origins=(PAGE,),
    protect_metrics=True,
    max_body_bytes=MAX_BODY,
    max_held_body_bytes=2 * MAX_BODY,
    body_s=1.0,
)


@pytest.fixture(scope="module")
def strict(checkpoint: Checkpoint) -> Generator[LiveServer]:
    with live_server(checkpoint, SETTINGS) as running:
        yield running


@pytest.fixture
def http(strict: LiveServer) -> Generator[httpx.Client]:
    with httpx.Client(base_url=strict.url, timeout=30, trust_env=False) as client:
        yield client
    until(lambda: strict.is_idle)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def check_error(reply: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The answer is that error, in OpenAI's form."""
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    return error


@pytest.mark.parametrize("key", KEYS)
def test_every_key_opens(http: httpx.Client, key: str) -> None:
    assert http.post("/v1/chat/completions", json=CHAT, headers=bearer(key)).status_code == 200


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer key-on", "Bearer key-one2", "Basic key-one", "key-one"],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/nope", "/nope"])
def test_no_key_opens_nothing(http: httpx.Client, path: str, value: str) -> None:
    reply = http.post(path, json=CHAT, headers={"Authorization": value})
    error = check_error(reply, 401, "invalid_api_key")
    assert error["type"] == "authentication_error"
    assert reply.headers["www-authenticate"] == "Bearer"


def test_two_keys_in_one_request_are_none(http: httpx.Client) -> None:
    headers = [("Authorization", f"Bearer {key}") for key in KEYS]
    check_error(http.get("/v1/models", headers=headers), 401, "invalid_api_key")


def test_the_sdk_raises_its_own_class(strict: LiveServer) -> None:
    with strict.client(api_key="wrong") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


@pytest.mark.parametrize("path", ["/health", "/health/live", "/v1/health/ready", "/version"])
def test_health_needs_no_key(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 200


def test_metrics_need_a_key_if_told_so(http: httpx.Client) -> None:
    check_error(http.get("/metrics"), 401, "invalid_api_key")
    assert http.get("/metrics", headers=bearer("key-two")).status_code == 200


def test_the_document_names_keys_where_they_are_needed(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    assert paths["/v1/chat/completions"]["post"]["security"] == [{"api_key": []}]
    assert paths["/metrics"]["get"]["security"] == [{"api_key": []}]
    assert "security" not in paths["/health"]["get"]


def test_headers_for_browsers_are_on_every_answer(http: httpx.Client) -> None:
    for reply in (http.get("/health"), http.get("/v1/models"), http.get("/nope"), http.put("/")):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["content-security-policy"].startswith("default-src 'none'")
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["x-frame-options"] == "DENY"


def test_a_plain_request_id_comes_back(http: httpx.Client) -> None:
    reply = http.get("/health", headers={"X-Request-Id": "abc-1.2_Z"})
    assert reply.headers.get_list("x-request-id") == ["abc-1.2_Z"]


@pytest.mark.parametrize(
    "bad", ["", "a b", "a" * 65, "127.0.0.1:80/x", "é", "a\tb", "%0d%0a", '"', "a" * 20_000]
)
def test_any_other_request_id_is_replaced(http: httpx.Client, bad: str) -> None:
    reply = http.get("/health", headers={"X-Request-Id": bad.encode("latin-1")})  # type: ignore[dict-item]
    made = reply.headers["x-request-id"]
    assert made != bad
    assert len(made) == 32


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "169.254.169.254", ""]
)
def test_a_foreign_host_is_refused(http: httpx.Client, host: str) -> None:
    check_error(http.get("/version", headers={"Host": host}), 403, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "[::1]:8000"])
def test_names_of_this_machine_are_fine(http: httpx.Client, host: str) -> None:
    assert http.get("/version", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["null", "https://evil.example", "http://localhost:1", "x", ""])
def test_a_foreign_page_can_change_nothing(http: httpx.Client, origin: str) -> None:
    headers = {"Origin": origin, **bearer("key-one")}
    reply = http.post("/v1/chat/completions", json=CHAT, headers=headers)
    check_error(reply, 403, "origin_not_allowed")
    assert "access-control-allow-origin" not in reply.headers


def test_the_own_page_and_listed_pages_may_ask(http: httpx.Client, strict: LiveServer) -> None:
    for origin in (strict.url, PAGE):
        headers = {"Origin": origin, **bearer("key-one")}
        assert http.post("/v1/chat/completions", json=CHAT, headers=headers).status_code == 200


def preflight(origin: str) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
    }


def test_a_listed_page_gets_its_headers_also_on_errors(http: httpx.Client) -> None:
    asked = http.options("/v1/chat/completions", headers=preflight(PAGE))
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert "x-stainless-lang" in asked.headers["access-control-allow-headers"]
    refused = http.post("/v1/chat/completions", json=CHAT, headers={"Origin": PAGE})
    check_error(refused, 401, "invalid_api_key")
    assert refused.headers["access-control-allow-origin"] == PAGE
    assert "access-control-allow-credentials" not in refused.headers


def test_an_unlisted_page_is_told_no_before_it_asks(http: httpx.Client) -> None:
    reply = http.options("/v1/chat/completions", headers=preflight("https://evil.example"))
    check_error(reply, 403, "origin_not_allowed")


def test_a_large_body_is_refused_by_its_length(http: httpx.Client) -> None:
    reply = http.post(
        "/v1/chat/completions", content=b"x" * (MAX_BODY + 1), headers=bearer(KEYS[0])
    )
    error = check_error(reply, 413, "body_too_large")
    assert str(MAX_BODY) in error["message"]


def test_a_body_without_length_is_counted(http: httpx.Client) -> None:
    def endless() -> Generator[bytes]:
        for _ in range(1000):
            yield b" " * 10_000

    reply = http.post("/v1/chat/completions", content=endless(), headers=bearer(KEYS[0]))
    check_error(reply, 413, "body_too_large")


def test_without_a_key_no_body_is_read(http: httpx.Client) -> None:
    reply = http.post("/v1/chat/completions", content=b"x" * (MAX_BODY + 1))
    check_error(reply, 401, "invalid_api_key")


def test_a_body_that_does_not_come_ends(strict: LiveServer) -> None:
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEYS[0]}"
        "\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    with socket.create_connection(("127.0.0.1", strict.port), timeout=5) as connection:
        connection.sendall(head.encode())
        assert b" 408 " in connection.recv(4096).split(b"\r\n")[0]


@contextmanager
def stalled(strict: LiveServer, key: str, num: int = 1) -> Generator[None]:
    """So many of this client's uploads that stop one byte before their end."""
    head = (
        f"POST /v1/compare HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {MAX_BODY}\r\n\r\n"
    )
    num_before = strict.services.lifecycle.num_open
    slow = [socket.create_connection(("127.0.0.1", strict.port), timeout=5) for _ in range(num)]
    for connection in slow:
        connection.sendall(head.encode() + b" " * (MAX_BODY - 1))
    until(lambda: strict.services.lifecycle.num_open == num_before + num)
    time.sleep(0.1)
    try:
        yield
    finally:
        for connection in slow:
            connection.close()
    until(lambda: strict.services.lifecycle.num_open == num_before)


def send_large(http: httpx.Client, key: str) -> httpx.Response:
    """A body that is not small, of no type that is taken: 415 where it is read."""
    return http.post("/v1/chat/completions", content=b" " * (MAX_BODY // 2), headers=bearer(key))


def test_bodies_together_are_bounded_in_memory(strict: LiveServer, http: httpx.Client) -> None:
    with stalled(strict, KEYS[0]), stalled(strict, KEYS[1]):
        for key in KEYS:
            reply = send_large(http, key)
            error = check_error(reply, 429, "queue_full")
            assert error["message"].startswith("as much is held as fits into memory")
            assert int(reply.headers["retry-after"]) >= 1
    for key in KEYS:
        assert send_large(http, key).status_code == 415


def test_bodies_of_one_client_leave_room_for_others(strict: LiveServer, http: httpx.Client) -> None:
    with stalled(strict, KEYS[0]):
        error = check_error(send_large(http, KEYS[0]), 429, "queue_full")
        assert "one client" in error["message"]
        assert send_large(http, KEYS[1]).status_code == 415


def test_small_bodies_pass_when_memory_is_full(strict: LiveServer, http: httpx.Client) -> None:
    with stalled(strict, KEYS[0]), stalled(strict, KEYS[1]):
        for key in KEYS:
            assert http.post("/v1/chat/completions", json=CHAT, headers=bearer(key)).is_success


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_bodies_that_nobody_reads_are_not_judged(http: httpx.Client, method: str) -> None:
    headers = {"Content-Type": "application/json"}
    for body in (b"[" * 10_000, b"x" * (MAX_BODY + 1)):
        reply = http.request(method, "/health", content=body, headers=headers)
        assert reply.status_code == (200 if method == "GET" else 405)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_json_never_reaches_the_parser(http: httpx.Client, opening: str) -> None:
    headers = {**bearer("key-one"), "Content-Type": "application/json"}
    body = (opening * 10_000).encode()
    reply = http.post("/v1/chat/completions", content=body, headers=headers)
    check_error(reply, 400, "json_too_deep")


def test_errors_inside_are_told_nothing(http: httpx.Client, strict: LiveServer) -> None:
    class Broken:
        def render(self) -> bytes:
            raise RuntimeError("secret at 0x7f0000000000 in /usr/lib/secret.py")

    services = strict.app.state.services
    real = services.metrics
    object.__setattr__(services, "metrics", Broken())
    try:
        reply = http.get("/metrics", headers=bearer("key-one"))
    finally:
        object.__setattr__(services, "metrics", real)
    check_error(reply, 500, "internal_error")
    assert "secret" not in reply.text
    assert "x-request-id" in reply.headers


def test_all_json_errors_are_json(http: httpx.Client) -> None:
    headers = {**bearer("key-one"), "Content-Type": "application/json"}
    for body in (b"", b"{", b"nope", b'{"a":1}' * 2, b"\xff\xfe{\x00}\x00", b'"\x00"'):
        reply = http.post("/v1/chat/completions", content=body, headers=headers)
        assert reply.status_code == 400
        assert json.loads(reply.content)["error"]["code"]
