"""The same questions to our own engine and to vLLM."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.request import SamplingParams
from vlm_dlm.runtime import Runtime

SCRIPT = Path(__file__).with_name("answers.py")
LIMIT_S = 600
# One child at a time takes this much of memory for keys and values, in GiB.
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


@dataclass(frozen=True, slots=True)
class Question:
    """images: mode RGB; they come before the text."""

    text: str
    images: tuple[Image.Image, ...] = ()
    max_tokens: int = 96


@dataclass(frozen=True, slots=True)
class Answered:
    """One question's prompt, answer and pixels (SHA-256 of float32, one per image)."""

    prompt_ids: list[int]
    token_ids: list[int]
    pixels: list[str]


def ours(model: Path, questions: Sequence[Question], max_context: int) -> list[Answered]:
    """Mode `ar` of our own engine, float32, greedy."""
    limits = EngineConfig(max_cache_tokens=4 * max_context)
    runtime = Runtime.load(model, device="cpu", dtype="float32", engine_config=limits)
    answers: list[Answered] = []
    for question in questions:
        prompt = runtime.prompt(question.text, question.images, max_tokens=question.max_tokens)
        planes = runtime.checkpoint.processor.pixels(prompt)
        report = runtime.generate(
            prompt, "ar", sampling=SamplingParams(max_tokens=question.max_tokens)
        )
        digests = [hashlib.sha256(plane.numpy().tobytes()).hexdigest() for plane in planes]
        token_ids = list(report.results[0].token_ids)
        answers.append(Answered(list(prompt.token_ids), token_ids, digests))
    runtime.close()
    return answers


def vllms(
    python: str,
    model: Path,
    questions: Sequence[Question],
    max_context: int,
    folder: Path,
    overrides: dict[str, Any] | None = None,
) -> list[Answered]:
    """vLLM with the plugin, float32, greedy, asked through its chat interface."""
    stop_ids = [11, 2]
    jobs = [
        {
            "messages": [{"role": "user", "content": _content(question)}],
            "max_tokens": question.max_tokens,
            "stop_ids": stop_ids,
        }
        for question in questions
    ]
    asked = {
        "model": str(model),
        "overrides": overrides or {},
        "max_context": max_context,
        "jobs": jobs,
    }
    (folder / "jobs.json").write_text(json.dumps(asked))
    done = subprocess.run(
        [python, str(SCRIPT), str(folder / "jobs.json"), str(folder / "answers.json")],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return [Answered(**raw) for raw in json.loads((folder / "answers.json").read_text())]


def _content(question: Question) -> list[dict[str, Any]]:
    images = [{"type": "image_url", "image_url": {"url": _uri(i)}} for i in question.images]
    return [*images, {"type": "text", "text": question.text}]


def _uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
