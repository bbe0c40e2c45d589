"""Whoever is refused by a limit of this server is told which setting it is."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.api.serving import LiveServer, image_part, live_server, png
from vlm_dlm.preflight import Checkpoint
from vlm_dlm_app.settings.model import Settings

LIMITS = Settings(
    max_images=2,
    max_image_bytes=1000,
    max_image_pixels=10_000,
    max_request_pixels=15_000,
    max_prompt_chars=200,
    max_messages=2,
    max_json_depth=12,
    max_body_bytes=20_000,
    max_tokens_limit=50,
    max_n=2,
    max_stop=2,
    max_stop_chars=5,
)


@pytest.fixture(scope="module")
def limited(checkpoint: Checkpoint) -> Generator[LiveServer]:
    with live_server(checkpoint, LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def fetching(checkpoint: Checkpoint) -> Generator[LiveServer]:
    with live_server(checkpoint, Settings(allow_image_urls=True)) as running:
        yield running


def message(content: Any = "Hi") -> dict[str, Any]:
    return {"role": "user", "content": content}


def nested(depth: int) -> Any:
    return [] if not depth else [nested(depth - 1)]


def asking(**fields: Any) -> dict[str, Any]:
    return {"messages": [message()], **fields}


def showing(*pictures: bytes) -> dict[str, Any]:
    return asking(messages=[message([*map(image_part, pictures), {"type": "text", "text": "Hi"}])])


def at(url: str) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": url}}
    return asking(messages=[message([part, {"type": "text", "text": "Hi"}])])


CASES = {
    "max_images": showing(png(), png(), png()),
    "max_image_bytes": showing(b"\x89PNG\r\n\x1a\n" + bytes(2000)),
    "max_image_pixels": showing(png(200, 100)),
    "max_request_pixels": showing(png(90, 90), png(90, 91)),
    "max_prompt_chars": asking(messages=[message("x" * 300)]),
    "max_messages": asking(
        messages=[message(), {"role": "assistant", "content": "Yes"}, message()]
    ),
    "max_json_depth": asking(metadata={"a": nested(20)}),
    "max_body_bytes": asking(user="x" * 30_000),
    "max_tokens_limit": asking(max_tokens=51),
    "max_n": asking(n=3),
    "max_stop": asking(stop=["a", "b", "c"]),
    "max_stop_chars": asking(stop=["a" * 6]),
    "allow_image_urls": at("https://example.org/a.png"),
}


@pytest.mark.parametrize("setting", CASES)
def test_a_limit_is_named(limited: LiveServer, setting: str) -> None:
    assert setting in Settings.model_fields
    said = limited.http.post(f"{limited.url}/v1/chat/completions", json=CASES[setting])
    assert said.status_code in (400, 413), said.text
    assert setting in said.json()["error"]["message"]


def test_so_is_what_allows_plain_http(fetching: LiveServer) -> None:
    said = fetching.http.post(
        f"{fetching.url}/v1/chat/completions", json=at("http://example.org/a.png")
    )
    assert (said.status_code, said.json()["error"]["code"]) == (400, "image_urls_off")
    assert "allow_http_urls" in said.json()["error"]["message"]


def test_a_picture_in_a_form_too(limited: LiveServer) -> None:
    said = limited.http.post(
        f"{limited.url}/v1/generate",
        data={"prompt": "Hi"},
        files=[("image", ("a.png", png(200, 100), "image/png"))],
    )
    assert "max_image_pixels" in said.json()["error"]["message"]
