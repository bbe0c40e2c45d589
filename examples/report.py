"""Compare the modes on one image and keep it as one HTML file that opens offline, replay included.

    vlm-dlm serve                     # in another terminal
    python examples/report.py [IMAGE] [--out report.html] [--base-url http://127.0.0.1:8000]

The page offers the same file under every comparison; this is the way for programs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

IMAGE = Path(__file__).parents[1] / "assets" / "examples" / "shapes.png"
OPTIONS = {"max_tokens": 64}


def events(response: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """(kind, data) of server-sent events. A failure in mid-stream has no kind."""
    kind = "error"
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data" and value != "[DONE]":
            yield kind, json.loads(value)
        elif not line:
            kind = "error"


def record_of(client: httpx.Client, image: Path, prompt: str) -> dict[str, Any]:
    """One comparison in the format `vlm-dlm.comparison/1`."""
    model = checked(client.get("/v1/models")).json()["data"][0]
    titles = {mode["name"]: mode["title"] for mode in model["vlm_dlm"]["modes"]}
    answers: dict[str, dict[str, Any]] = {}
    summary: dict[str, Any] = {}
    form = {"prompt": prompt, "stream": "true", "options": json.dumps(OPTIONS)}
    files = {"image": image.read_bytes()}
    with client.stream("POST", "/v1/compare", data=form, files=files) as response:
        if response.is_error:
            response.read()
        for kind, data in events(checked(response)):
            if kind == "error":
                raise SystemExit(f"failed: {data['error']['message']}")
            if kind == "started":
                answers[data["mode"]] = {"title": titles[data["mode"]], "tokens": []}
            elif kind == "text":
                moment = [data["time_ms"], data["num_forwards"]]
                answers[data["mode"]]["tokens"] += [token + moment for token in data["tokens"]]
            elif kind == "result":
                answers[data["mode"]]["result"] = data
            elif kind == "summary":
                summary = data
    for mode, answer in answers.items():  # known once all have finished
        answer["result"]["agreement"] = summary["agreement"][mode]
    return {
        "format": "vlm-dlm.comparison/1",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model["id"],
        "prompt": prompt,
        "modes": list(answers),
        "options": OPTIONS,
        "summary": summary,
        "answers": answers,
    }


def checked(response: httpx.Response) -> httpx.Response:
    """The same, unless it is an error; then its sentence ends the program."""
    if response.is_error:
        raise SystemExit(response.json()["error"]["message"])
    return response


def main() -> None:
    """One comparison, one file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("image", type=Path, nargs="?", default=IMAGE)
    parser.add_argument("--prompt", default="Describe the image.")
    parser.add_argument("--out", type=Path, default=Path("report.html"))
    parser.add_argument("--base-url", default="http://127.0.0.1:8000")
    parser.add_argument("--api-key", default="none")
    arguments = parser.parse_args()
    keys = {"Authorization": f"Bearer {arguments.api_key}"}
    with httpx.Client(base_url=arguments.base_url, headers=keys, timeout=300.0) as client:
        record = record_of(client, arguments.image, arguments.prompt)
        reply = checked(client.post("/page/report", json={"record": record}))
    arguments.out.write_bytes(reply.content)
    print(f"{arguments.out}: {len(record['answers'])} modes, {len(reply.content):,} bytes")


if __name__ == "__main__":
    main()
