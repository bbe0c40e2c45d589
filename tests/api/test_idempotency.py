"""One run per Idempotency-Key: joined while it runs, replayed when it has ended well."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.api.modes import ScriptedModes, running
from tests.api.serving import LiveServer, until
from vlm_dlm.engine.scripted_engine import Script

SLOW = Script(("one ", "two ", "three ", "four ") * 5, step_s=0.02)


def ask(server: LiveServer, key: str | None, path: str = "chat/completions", **body: Any) -> Any:
    """One request, whole or streamed, as the client got it."""
    content = {"messages": [{"role": "user", "content": "hi"}], **body}
    headers = {} if key is None else {"Idempotency-Key": key}
    url = f"{server.url}/v1/{path}"
    return httpx.post(url, json=content, headers=headers, timeout=30, trust_env=False)


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_second_try_gets_the_stored_answer(server: LiveServer, is_stream: bool) -> None:
    key = f"again-{is_stream}"
    first, second = (ask(server, key, stream=is_stream) for _ in range(2))
    assert first.status_code == 200
    assert first.content == second.content
    assert first.headers["content-type"] == second.headers["content-type"]
    assert len(server.engine.requests) == 1


def test_without_a_key_every_request_runs(server: LiveServer) -> None:
    first, second = (ask(server, None) for _ in range(2))
    assert first.json()["id"] != second.json()["id"]
    assert len(server.engine.requests) == 2


@pytest.mark.parametrize("is_stream", [False, True])
def test_requests_at_the_same_time_share_one_run(server: LiveServer, is_stream: bool) -> None:
    server.engine.play(SLOW)
    key = f"together-{is_stream}"
    with ThreadPoolExecutor(5) as pool:
        replies = list(pool.map(lambda _: ask(server, key, stream=is_stream), range(5)))
    assert len({reply.content for reply in replies}) == 1
    assert len(server.engine.requests) == 1


def test_another_body_under_the_same_key_is_refused(server: LiveServer) -> None:
    assert ask(server, "body", seed=1).status_code == 200
    reply = ask(server, "body", seed=2)
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "idempotency_mismatch"


def test_another_route_is_another_key(server: LiveServer) -> None:
    assert ask(server, "route").status_code == 200
    form = {"prompt": "hi"}
    url, headers = f"{server.url}/v1/generate", {"Idempotency-Key": "route"}
    files = {"image": ("a.png", b"no picture", "image/png")}
    reply = httpx.post(url, data=form, files=files, headers=headers, timeout=30, trust_env=False)
    assert reply.json()["error"]["code"] != "idempotency_mismatch"


def test_multipart_tries_differ_in_their_boundary_only(server: LiveServer) -> None:
    url, headers = f"{server.url}/v1/generate", {"Idempotency-Key": "form"}
    fields = {"prompt": (None, "hi")}

    def post(text: str) -> httpx.Response:
        form = {**fields, "mode": (None, text)}
        return httpx.post(url, files=form, headers=headers, timeout=30, trust_env=False)

    first, second = post("ar"), post("ar")
    assert first.status_code == 200, first.text
    assert first.content == second.content
    assert post("diffusion").status_code == 400


@pytest.mark.parametrize("key", ["", "a" * 256, "é", "a\tb"])
def test_a_key_of_a_wrong_form_is_refused(server: LiveServer, key: str) -> None:
    url, headers = f"{server.url}/v1/chat/completions", {"Idempotency-Key": key.encode("latin-1")}
    body = {"messages": [{"role": "user", "content": "hi"}]}
    reply = httpx.post(url, json=body, headers=headers, timeout=30, trust_env=False)  # type: ignore[arg-type]
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "bad_idempotency_key")
    assert not server.engine.requests


def test_a_failure_is_not_kept(server: LiveServer) -> None:
    server.engine.play(Script(fail_after=1))
    assert ask(server, "failed").status_code == 500
    server.engine.play(Script())
    assert ask(server, "failed").status_code == 200


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_a_lost_connection_loses_no_answer(server: LiveServer, is_stream: bool) -> None:
    """Its client comes back while the answer is being written, or when it has been for a while."""
    server.engine.play(SLOW)
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": is_stream}
    content = json.dumps(body)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: lost-{}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    for when, is_over in {"during": False, "after": True}.items():
        server.engine.requests.clear()
        key = f"{when}-{is_stream}"
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall((head.format(key) + content).encode())
            until(lambda: server.engine.inner.num_running == 1)
        until(lambda: server.services.lifecycle.num_open == 0)
        assert server.engine.inner.num_running == 1
        if is_over:
            until(lambda: server.engine.inner.num_running == 0)
        # the very bytes count as the body
        headers = {"Idempotency-Key": f"lost-{key}", "Content-Type": "application/json"}
        url = f"{server.url}/v1/chat/completions"
        reply = server.http.post(url, content=content, headers=headers)
        assert reply.status_code == 200
        assert "error" not in reply.text
        assert "four " in reply.text
        assert len(server.engine.requests) == 1


def test_without_a_key_leaving_ends_the_work_at_once(server: LiveServer) -> None:
    server.engine.play(Script(("word ",) * 500, step_s=0.02))
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 500}
    with server.http.stream("POST", f"{server.url}/v1/chat/completions", json=body) as reply:
        next(reply.iter_raw())
    until(lambda: server.is_idle, 1.0)


def test_a_body_is_hashed_for_a_key_alone(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> bytes:
        raise AssertionError

    monkeypatch.setattr("vlm_dlm_app.http.bodies.digest_of", broken)
    for is_stream in (False, True):
        assert ask(server, None, stream=is_stream).status_code == 200
        assert ask(server, "hashed", stream=is_stream).status_code == 500


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_a_comparison_is_kept_only_if_no_mode_failed(is_stream: bool) -> None:
    async def run() -> None:
        engine = ScriptedModes(Script(), diffusion=Script(fail_after=1))
        async with running(engine) as server:
            headers = {"Idempotency-Key": "comparison"}
            body = {"prompt": "hi", "stream": is_stream}

            async def compare() -> str:
                return (await server.http.post("/v1/compare", json=body, headers=headers)).text

            failed = await compare()
            assert "engine_error" in failed
            engine.own.clear()
            good = await compare()
            assert "engine_error" not in good
            assert await compare() == good
        assert len(engine.requests) == 8

    asyncio.run(run())


def test_the_last_follower_to_leave_ends_the_run(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.services.idempotency, "linger_s", 0.3)
    server.engine.play(Script(("word ",) * 500, step_s=0.02))
    leave = threading.Event()

    def follow() -> None:
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 500}
        url, headers = f"{server.url}/v1/chat/completions", {"Idempotency-Key": "leaving"}
        with httpx.stream(
            "POST", url, json=body, headers=headers, timeout=30, trust_env=False
        ) as reply:
            pieces = reply.iter_raw()  # to be kept: its end would close the connection
            next(pieces)
            leave.wait(10)

    first, second = (threading.Thread(target=follow) for _ in range(2))
    first.start()
    until(lambda: server.engine.inner.num_running == 1)
    second.start()
    until(lambda: server.services.lifecycle.num_open == 2)
    assert len(server.engine.requests) == 1
    assert server.engine.inner.num_running == 1
    aborted = server.engine.inner.num_aborted
    leave.set()
    until(lambda: server.services.lifecycle.num_open == 0)
    left_s = time.monotonic()
    until(lambda: server.engine.inner.num_running == 0)
    assert time.monotonic() - left_s > 0.2
    assert server.engine.inner.num_aborted == aborted + 1
    first.join()
    second.join()
    assert ask(server, "leaving", max_tokens=1).status_code == 200  # the key is free again
