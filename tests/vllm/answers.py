"""Answers of vLLM, for tests: run by the interpreter of vLLM's own environment.

    python answers.py JOBS OUT

JOBS: {"model": folder, "overrides": {...}, "max_context": n, "jobs": [{"messages", "max_tokens",
"stop_ids"}, ...]}. OUT: one {"prompt_ids", "token_ids", "pixels"} per job; pixels: SHA-256 of every
image's float32 pixels as the plugin makes them.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

MAX_RUNNING = 8


def main() -> None:
    from vllm import LLM, SamplingParams
    from vllm.multimodal import MULTIMODAL_REGISTRY

    asked = json.loads(Path(sys.argv[1]).read_text())
    llm: Any = LLM(
        asked["model"],
        dtype="float32",
        enforce_eager=True,
        max_model_len=asked["max_context"],
        max_num_seqs=MAX_RUNNING,
        hf_overrides=asked["overrides"],
        seed=0,
    )
    config = llm.llm_engine.model_config
    processor: Any = None
    if config.is_multimodal_model:
        processor = MULTIMODAL_REGISTRY.create_processor(config)
    jobs = asked["jobs"]
    sampling = [
        SamplingParams(temperature=0, max_tokens=job["max_tokens"], stop_token_ids=job["stop_ids"])
        for job in jobs
    ]
    outputs = llm.chat([job["messages"] for job in jobs], sampling, use_tqdm=False)
    answers = [
        {
            "prompt_ids": list(output.prompt_token_ids),
            "token_ids": list(output.outputs[0].token_ids),
            "pixels": [digest(processor, url) for url in urls(job["messages"])],
        }
        for job, output in zip(jobs, outputs, strict=True)
    ]
    Path(sys.argv[2]).write_text(json.dumps(answers))


def urls(messages: list[dict[str, Any]]) -> list[str]:
    """Data URIs of all images, in order."""
    parts = (part for message in messages for part in message["content"])
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def digest(processor: Any, url: str) -> str:
    """Of the pixels that the plugin makes of an image."""
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    made = processor._call_hf_processor({"images": [picture]}, {})["pixel_values"][0]
    return hashlib.sha256(made.numpy().tobytes()).hexdigest()


if __name__ == "__main__":  # vLLM starts further processes from this file
    main()
