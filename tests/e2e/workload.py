"""What tests and benchmarks send: chat requests about example images and drawn scenes."""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "assets" / "examples"
MODES = ("ar", "diffusion", "linear_spec", "quadratic_spec")
PROMPT = "Describe the image."


@lru_cache
def pictures(num: int) -> tuple[str, ...]:
    """`num` different images as data URIs: the example images, then drawn scenes as PNG."""
    from vlm_dlm.scenes.samples import make_sample

    examples = sorted(path for path in EXAMPLES.iterdir() if path.suffix in (".png", ".jpg"))
    uris = [data_uri(path.read_bytes(), path.suffix) for path in examples[:num]]
    for index in range(num - len(uris)):
        uris.append(data_uri(png(make_sample(index, "heldout", seed=1).image)))
    return tuple(uris)


def png(image: Image.Image) -> bytes:
    """The image as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def data_uri(data: bytes, suffix: str = ".png") -> str:
    """As `image_url` takes it."""
    kind = "jpeg" if suffix == ".jpg" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def chat(
    images: tuple[str, ...] = (),
    prompt: str = PROMPT,
    mode: str = "ar",
    is_streamed: bool = True,
    max_tokens: int = 160,
    **options: Any,
) -> dict[str, Any]:
    """The body of a chat completion."""
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": url}} for url in images
    ]
    body = {
        "model": "vlm-dlm",
        "messages": [{"role": "user", "content": [*parts, {"type": "text", "text": prompt}]}],
        "generation_mode": mode,
        "max_tokens": max_tokens,
        **options,
    }
    if is_streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def long_answer(mode: str = "ar", max_tokens: int = 3000, **options: Any) -> dict[str, Any]:
    """A request that the endless checkpoint writes on for seconds."""
    return chat(prompt="Describe.", mode=mode, max_tokens=max_tokens, **options)


@lru_cache
def slow_image(side: int = 6200) -> str:
    """A small file that takes long to decode."""
    return data_uri(png(Image.new("L", (side, side), 128)))
