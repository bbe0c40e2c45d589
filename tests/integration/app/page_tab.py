"""A visitor's tab without a browser: the same requests, so that tests see what the server does."""

from __future__ import annotations

import json
import socket
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
    """Return once the page answers; it comes up after the engine."""
    eventually(lambda: "gradio_config" in server.get("/"), UP_S, pause_s=0.2)


class Tab:
    """One session."""

    def __init__(self, server: Server, http: httpx.Client | None = None) -> None:
        """http: by which the visitor asks; it is closed with the tab."""
        self.session = uuid4().hex[:11]
        self.http = http or httpx.Client(base_url=server.base_url, timeout=30.0)
        config = self.http.get("/config").json()
        self._streams: list[httpx.Response] = []
        self._is_followed = threading.Event()
        self._functions = {d["api_name"]: d["id"] for d in config["dependencies"]}

    def join(self, name: str, *data: Any, event: Any = None) -> httpx.Response:
        """Start one of the page's functions, as pressing its button does. event: what the press
        brings."""
        body = {
            "data": list(data),
            "fn_index": self._functions[name],
            "session_hash": self.session,
            "event_data": event,
            "trigger_id": None,
        }
        return self.http.post(f"{API}/queue/join", json=body)

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the server tells this session, until nothing runs any more."""
        query = {"session_hash": self.session}
        with self.http.stream("GET", f"{API}/queue/data", params=query) as reply:
            self._streams.append(reply)
            self._is_followed.set()
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

    def follow(self) -> None:
        """Read messages in the background, as a tab does, until `close`."""

        def read() -> None:
            with suppress(httpx.HTTPError, OSError):
                for _ in self.messages():
                    pass

        threading.Thread(target=read, daemon=True).start()
        assert self._is_followed.wait(10), "the stream of messages never came"

    @contextmanager
    def opened(self) -> Iterator[Tab]:
        """The tab is open within; leaving closes all its connections."""
        try:
            yield self
        finally:
            self.close()

    def close(self) -> None:
        """As a browser does, which breaks off what is under way."""
        for reply in self._streams:
            network: Any = reply.extensions["network_stream"]
            with suppress(OSError):
                network.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self.http.close()


def error_of(messages: list[dict[str, Any]]) -> str | None:
    """The sentence that a function ended with; None for a good end."""
    done = [message for message in messages if message["msg"] == "process_completed"]
    return None if done[-1]["success"] else done[-1]["output"]["error"]
