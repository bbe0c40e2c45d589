"""Addresses that are nearly right are served, others say what is there, and nothing gets around the
keys, the limits or the page's own list by the way it is written."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.serving import LiveServer, live_server, until
from vlm_dlm.preflight import Checkpoint
from vlm_dlm_app.http.addresses import ELSEWHERE, MAX_PATH_CHARS
from vlm_dlm_app.main import ADDRESSES
from vlm_dlm_app.page.paths import is_page_path
from vlm_dlm_app.settings.model import Settings

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    "path",
    [
        *(CHAT, "/v1//chat/completions", "//v1/chat//completions", "/v1/chat/completions/"),
        *("/chat/completions", "/chat/completions/", "/v1/v1/chat/completions", "/v1/v1/v1" + CHAT),
    ],
)
def test_a_question_arrives(server: LiveServer, path: str) -> None:
    reply = server.http.post(f"{server.url}{path}", json=ASK)
    assert (reply.status_code, reply.json()["object"]) == (200, "chat.completion")


@pytest.mark.parametrize(
    ("path", "served"),
    [
        ("/models", "/v1/models"),
        ("/v1/models/", "/v1/models"),
        ("/models/vlm-dlm:ar/", "/v1/models/vlm-dlm:ar"),
    ],
)
def test_what_is_meant_is_served(server: LiveServer, path: str, served: str) -> None:
    replies = [server.http.get(f"{server.url}{at}") for at in (path, served)]
    assert [reply.status_code for reply in replies] == [200, 200]
    assert replies[0].json() == replies[1].json()


@pytest.mark.parametrize(
    "path", ["/metrics", "/health", "/health/live", "/version", "/openapi.json"]
)
def test_what_proxies_may_keep_from_outside_has_one_spelling(server: LiveServer, path: str) -> None:
    spellings = (f"{path}/", f"/{path}", f"/v1/v1{path}", f"/v1{path}/", f"{path}//")
    for other in spellings:
        reply = server.http.get(f"{server.url}{other}")
        assert reply.status_code == 404, other
        assert "no such address" in reply.json()["error"]["message"]


@pytest.mark.parametrize("base", ["", "/", "/v1/", "/v1//", "/v1/v1"])
def test_the_sdk_with_a_base_url_that_is_nearly_right(server: LiveServer, base: str) -> None:
    with openai.OpenAI(base_url=f"{server.url}{base}", api_key="none", max_retries=0) as client:
        reply = client.chat.completions.create(model="vlm-dlm", messages=ASK["messages"])
        assert reply.choices[0].message.content
        assert next(model.id for model in client.models.list()) == "vlm-dlm"


@pytest.mark.parametrize("path", [*ELSEWHERE, "/v1/messages/count_tokens", "/v1//responses/"])
def test_addresses_of_other_apis_say_what_works_here(server: LiveServer, path: str) -> None:
    for method in ("GET", "POST"):
        reply = server.http.request(method, f"{server.url}{path}", json={})
        error = reply.json()["error"]
        assert (reply.status_code, error["code"]) == (404, "not_found")
        assert error["message"].startswith("there is no such address here; ")
        assert re.search(r"(GET|POST) /", error["message"])
        assert "/openapi.json" not in error["message"] or path in ("/docs", "/redoc")


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/v1/chat/completion", CHAT),
        ("/v1/chat/completitions", CHAT),
        ("/v1/model", "/v1/models"),
        ("/v1/responses", CHAT),
        ("/helth", "/health"),
        ("/v1/metrics", "/metrics"),
        ("/", "/v1"),
        ("/some/thing/else", "/openapi.json"),
        ("/" + "v1/" * 1300, "/openapi.json"),
    ],
)
def test_what_is_no_address_names_the_nearest(server: LiveServer, path: str, named: str) -> None:
    reply = server.http.get(f"{server.url}{path}")
    assert reply.status_code == 404
    assert named in reply.json()["error"]["message"]


def test_another_method_is_told_which_are_taken(server: LiveServer) -> None:
    reply = server.http.get(f"{server.url}/v1//chat/completions")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
    assert reply.json()["error"]["message"] == "this address takes POST, not GET"


@pytest.fixture(scope="module")
def shut(checkpoint: Checkpoint) -> Generator[LiveServer]:
    """Asks for keys everywhere, and takes small bodies."""
    own = Settings(api_keys=["key-one"], protect_metrics=True, max_body_bytes=1000)  # pyright: ignore
    with live_server(checkpoint, own) as running:
        yield running


@pytest.mark.parametrize("path", ["/v1//chat/completions", "/chat/completions", "/v1/v1" + CHAT])
def test_keys_and_limits_hold_for_every_spelling(shut: LiveServer, path: str) -> None:
    assert shut.http.post(f"{shut.url}{path}", json=ASK).status_code == 401
    headers = {"Authorization": "Bearer key-one"}
    long = {**ASK, "user": "x" * 2000}
    assert shut.http.post(f"{shut.url}{path}", json=long, headers=headers).status_code == 413
    assert shut.http.post(f"{shut.url}{path}", json=ASK, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/metrics/", "//metrics", "/models", "/v1/models/", "/nope"])
def test_what_is_shut_is_shut_by_every_spelling(shut: LiveServer, path: str) -> None:
    assert shut.http.get(f"{shut.url}{path}").status_code == 401


@given(st.lists(st.sampled_from([*"/%.x", "v1", "models", "config", "gradio_api", "health"])))
@settings(max_examples=300, deadline=None)
def test_only_addresses_of_the_api_are_ever_meant(pieces: list[str]) -> None:
    path = "/" + "".join(pieces)
    meant = ADDRESSES.meant(path)
    if meant is not None:
        assert meant in ADDRESSES.plain or meant.startswith("/v1/models/")
        assert not is_page_path(meant, has_mcp=True)
        assert not is_page_path(path, has_mcp=True)
        assert ADDRESSES.meant(meant) is None
        assert len(path) <= MAX_PATH_CHARS


def test_the_page_keeps_its_own_addresses() -> None:
    for path in (
        "/",
        "/config",
        "/assets/a",
        "/gradio_api//models",
        "/gradio_api/info/",
        "/theme.css",
    ):
        assert ADDRESSES.meant(path) is None


def test_a_log_line_has_the_path_that_came(
    server: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "vlm_dlm_app.requests")
    server.http.get(f"{server.url}/v1/v1/models", headers={"X-Request-Id": "odd"})
    until(
        lambda: any("request=odd" in line for line in caplog.messages)
    )  # written after the answer
    assert any("path=/v1/v1/models" in line for line in caplog.messages)
