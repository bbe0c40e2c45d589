"""POST /page/report: the page's record in, a file out; what is wrong with others is said."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import httpx
import pytest

from tests.api.serving import LiveServer, data_uri, live_server, png
from tests.unit.app.page_records import make_record
from vlm_dlm.preflight import Checkpoint
from vlm_dlm_app.page.report_route import router
from vlm_dlm_app.settings.model import Settings


@pytest.fixture(scope="module")
def server(checkpoint: Checkpoint) -> Generator[LiveServer]:
    """With this route but without the page, which takes seconds to come up."""
    with live_server(checkpoint, Settings(max_body_bytes=200_000)) as running:
        running.app.include_router(router)
        yield running


def post(server: LiveServer, **body: Any) -> httpx.Response:
    return server.http.post(f"{server.url}/page/report", json=body)


def message(reply: httpx.Response) -> str:
    return reply.json()["error"]["message"]


def test_a_record_becomes_a_file_that_no_browser_opens_here(server: LiveServer) -> None:
    reply = post(server, record=make_record(), image=data_uri(png()))

    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["content-disposition"].startswith("attachment;")
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")
    assert reply.text.startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 400, "record"),
        ({"record": {}}, 400, "format"),
        ({"record": make_record(model="")}, 400, "model"),
        ({"record": make_record(), "image": "data:text/html;base64,AAAA"}, 400, "image"),
        ({"record": make_record(), "other": 1}, 400, "other"),
        ({"record": make_record(prompt="x" * 200_000)}, 413, "200000"),
    ],
)
def test_what_is_no_record_is_refused_with_a_sentence(
    server: LiveServer, body: dict[str, Any], status: int, said: str
) -> None:
    reply = post(server, **body)

    assert reply.status_code == status
    assert said in message(reply)


def test_only_json_is_taken_so_that_no_form_of_another_site_can_post(server: LiveServer) -> None:
    reply = server.http.post(f"{server.url}/page/report", data={"record": "{}"})

    assert reply.status_code == 415


def test_there_is_nothing_to_get(server: LiveServer) -> None:
    assert server.http.get(f"{server.url}/page/report").status_code == 405
