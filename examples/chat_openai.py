"""Ask a running server about an image with the official OpenAI client, in every mode.

    vlm-dlm serve                     # in another terminal
    python examples/chat_openai.py [IMAGE] [--base-url http://127.0.0.1:8000/v1]

The modes are model ids (NAME:ar, NAME:diffusion, ...), so any program that speaks OpenAI's API and
can choose a model can choose a mode.
"""

from __future__ import annotations

import argparse
import base64
from pathlib import Path
from typing import Any

from openai import OpenAI

IMAGE = Path(__file__).parents[1] / "assets" / "examples" / "shapes.png"


def question(image: Path, prompt: str) -> list[Any]:
    """One user message: the image as a data URI, then the text."""
    encoded = base64.b64encode(image.read_bytes()).decode()
    url = {"url": f"data:image/png;base64,{encoded}"}
    parts = [{"type": "image_url", "image_url": url}, {"type": "text", "text": prompt}]
    return [{"role": "user", "content": parts}]


def whole(client: OpenAI, model: str, messages: list[Any]) -> str:
    """The answer at once."""
    reply = client.chat.completions.create(model=model, messages=messages, max_tokens=64)
    return reply.choices[0].message.content or ""


def streamed(client: OpenAI, model: str, messages: list[Any]) -> str:
    """The answer as it is written, with the figures of the last chunk."""
    chunks = client.chat.completions.create(
        model=model,
        messages=messages,
        max_tokens=64,
        stream=True,
        stream_options={"include_usage": True},
    )
    text = ""
    for chunk in chunks:
        for choice in chunk.choices:
            piece = choice.delta.content or ""
            print(piece, end="", flush=True)
            text += piece
        if chunk.usage is not None:
            metrics = (chunk.model_extra or {}).get("metrics", {})
            print(f"\n  {chunk.usage.completion_tokens} tokens", end="")
            print(f", {metrics.get('tokens_per_forward', 0):.1f} per forward")
    return text


def main() -> None:
    """Ask every model that the server lists."""
    parser = argparse.ArgumentParser()
    parser.add_argument("image", type=Path, nargs="?", default=IMAGE, help="a PNG file")
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--api-key", default="none")
    arguments = parser.parse_args()
    client = OpenAI(base_url=arguments.base_url, api_key=arguments.api_key)
    messages = question(arguments.image, "Describe the image.")
    for model in client.models.list().data:
        print(f"\n{model.id}")
        text = streamed(client, model.id, messages)
        print("  same answer when not streamed:", whole(client, model.id, messages) == text)


if __name__ == "__main__":
    main()
