"""Compare the modes on one image through a running server, live.

    vlm-dlm serve                     # in another terminal
    python examples/compare.py [IMAGE] [--base-url http://127.0.0.1:8000/v1]

The server encodes image and prompt once. Its events say which mode each piece of text belongs to.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

IMAGE = Path(__file__).parents[1] / "assets" / "examples" / "shapes.png"


def events(response: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """(kind, data) of server-sent events; comments, which keep the line open, are skipped. A
    failure in mid-stream has no kind, as in OpenAI's API."""
    kind = "error"
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data" and value != "[DONE]":
            yield kind, json.loads(value)
        elif not line:
            kind = "error"


def show(kind: str, data: dict[str, Any]) -> None:
    """One event in the terminal."""
    if kind == "started":
        print(f"\n{data['mode']}")
    elif kind == "text":
        print(data["text"], end="", flush=True)
    elif kind == "result" and data["error"] is None:
        metrics = data["metrics"]
        print(
            f"\n  {data['num_tokens']} tokens in {metrics['num_forwards']} forwards, "
            f"{metrics['tokens_per_second']:.0f} tokens/s"
        )
    elif kind == "result":
        print(f"\n  failed: {data['error']['message']}")
    elif kind == "error":
        raise SystemExit(f"failed: {data['error']['message']}")
    elif kind == "summary":
        image, prompt = data["vision_ms"], data["prefill_ms"]
        if prompt is not None:  # vLLM does not say
            print(f"\nimage {image:.0f} ms, prompt {prompt:.0f} ms, both once")
        for mode, agreement in data["agreement"].items():
            if agreement is not None:
                print(f"  {mode}: {agreement['share']:.0%} of the tokens as ar wrote them")


def main() -> None:
    """All modes on one image."""
    parser = argparse.ArgumentParser()
    parser.add_argument("image", type=Path, nargs="?", default=IMAGE)
    parser.add_argument("--prompt", default="Describe the image.")
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--api-key", default="none")
    arguments = parser.parse_args()
    form = {"prompt": arguments.prompt, "stream": "true", "options": '{"max_tokens": 64}'}
    request = {
        "data": form,
        "files": {"image": arguments.image.read_bytes()},
        "headers": {"Authorization": f"Bearer {arguments.api_key}"},
    }
    url = f"{arguments.base_url}/compare"
    with httpx.stream("POST", url, timeout=300.0, **request) as response:
        if response.is_error:
            raise SystemExit(json.loads(response.read())["error"]["message"])
        for kind, data in events(response):
            show(kind, data)


if __name__ == "__main__":
    main()
