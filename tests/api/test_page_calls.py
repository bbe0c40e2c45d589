"""Calls of the page through the whole application, as the server runs it."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.api.serving import LiveServer, live_server, until
from vlm_dlm.preflight import Checkpoint
from vlm_dlm_app.settings import Settings

API = "/gradio_api"


@pytest.fixture(scope="module")
def server(checkpoint: Checkpoint) -> Generator[LiveServer]:
    with live_server(checkpoint, Settings(), has_page=True) as running:
        until(lambda: "gradio_config" in running.http.get(f"{running.url}/").text, 60)
        yield running


def function(server: LiveServer, name: str) -> int:
    """The number under which a named function is called."""
    found = server.http.get(f"{server.url}/config").json()["dependencies"]
    return next(its["id"] for its in found if its["api_name"] == name)


def test_every_post_of_the_page_is_answered(server: LiveServer) -> None:
    join = {"data": [], "fn_index": function(server, "modes"), "session_hash": "s"}
    bodies = {
        f"{API}/queue/join": (join, 200),
        f"{API}/call/modes": ({"data": []}, 200),
        f"{API}/cancel": ({"session_hash": "s", "fn_index": 0, "event_id": "x"}, 200),
        f"{API}/reset": ({"event_id": "x"}, 200),
        "/page/free": ({"paths": []}, 204),
    }
    for path, (body, status) in bodies.items():
        reply = server.http.post(server.url + path, json=body)
        assert reply.status_code == status, (path, reply.text)
