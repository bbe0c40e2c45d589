"""A visitor's tab without a browser: the same requests, so that tests see what the server does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import httpx

from tests.e2e.server import Server, eventually

API = "/gradio_api"
UP_S = 60.0


def wait_for_page(server: Server) -> None:
    """Return once the page answers; it comes up behind the engine."""
    eventually(lambda: "gradio_config" in server.get("/"), UP_S, pause_s=0.2)


class Tab:
    """One session. Its heartbeat is open from `opened` until the tab is closed."""

    def __init__(self, server: Server) -> None:
        self.session = uuid4().hex[:11]
        self.http = httpx.Client(base_url=server.base_url, timeout=30.0)
        config = self.http.get("/config").json()
        self._functions = {d["api_name"]: d["id"] for d in config["dependencies"]}

    def join(self, name: str, *data: Any) -> httpx.Response:
        """Start one of the page's functions, as pressing its button does."""
        body = {
            "data": list(data),
            "fn_index": self._functions[name],
            "session_hash": self.session,
            "event_data": None,
            "trigger_id": None,
        }
        return self.http.post(f"{API}/queue/join", json=body)

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the server tells this session, until nothing runs any more."""
        query = {"session_hash": self.session}
        with self.http.stream("GET", f"{API}/queue/data", params=query) as reply:
            for line in reply.iter_lines():
                if line.startswith("data:"):
                    message = json.loads(line[5:])
                    yield message
                    if message["msg"] == "close_stream":
                        return

    def press(self, name: str, *data: Any) -> list[dict[str, Any]]:
        """Start a function and follow it to its end."""
        reply = self.join(name, *data)
        assert reply.status_code == 200, reply.text
        return list(self.messages())

    @contextmanager
    def opened(self) -> Iterator[Tab]:
        """The tab is open within; leaving closes all its connections."""
        beat = httpx.Client(base_url=self.http.base_url, timeout=None)
        ready = threading.Event()

        def follow() -> None:
            path = f"{API}/heartbeat/{self.session}"
            with suppress(httpx.HTTPError), beat.stream("GET", path) as reply:
                streams.append(reply)
                for _ in reply.iter_raw():
                    ready.set()

        streams: list[httpx.Response] = []
        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        assert ready.wait(10), "the heartbeat never came"
        try:
            yield self
        finally:
            for stream in streams:
                network: Any = stream.extensions["network_stream"]
                network.get_extra_info("socket").shutdown(2)
            thread.join(5)
            beat.close()
            self.close()

    def close(self) -> None:
        """Drop what is not the heartbeat."""
        self.http.close()


def error_of(messages: list[dict[str, Any]]) -> str | None:
    """The sentence that a function ended with; None for a good end."""
    done = [message for message in messages if message["msg"] == "process_completed"]
    return None if done[-1]["success"] else done[-1]["output"]["error"]
