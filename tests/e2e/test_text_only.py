"""A text-only checkpoint behind a real server: it answers, and says that it takes no images."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.checkpoints import write_tiny_checkpoint
from tests.e2e.server import Server, eventually

QUESTION = {"type": "text", "text": "Hello"}


def ask(server: Server, content: Any) -> tuple[int, dict[str, Any]]:
    body = {"model": "vlm-dlm", "max_tokens": 8, "messages": [{"role": "user", "content": content}]}
    request = urllib.request.Request(
        f"{server.base_url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_text_is_answered_and_an_image_refused(tmp_path: Path, scene_file: Path) -> None:
    image = f"data:image/png;base64,{base64.b64encode(scene_file.read_bytes()).decode()}"
    with Server(model=write_tiny_checkpoint(tmp_path, is_text_only=True), page=True) as server:
        models = json.loads(server.get("/v1/models"))["data"]
        assert {tuple(m["architecture"]["input_modalities"]) for m in models} == {("text",)}
        status, reply = ask(server, "Hello")
        assert (status, reply["usage"]["completion_tokens"]) == (200, 8)
        status, reply = ask(server, [{"type": "image_url", "image_url": {"url": image}}, QUESTION])
        assert status == 400
        assert reply["error"]["message"] == "this model reads text only; 1 images were given"
        status, _ = ask(server, [QUESTION])
        assert status == 200
        eventually(lambda: "reads text only" in server.get("/"), 60)  # the page comes up beside
