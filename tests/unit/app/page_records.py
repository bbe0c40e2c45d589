"""A comparison as the page would have recorded it, made by hand."""

from __future__ import annotations

from typing import Any

AR_TEXT = ("A", " red", " circle", " is", " above", " a", " blue", " square", ".")


def make_record(**changes: Any) -> dict[str, Any]:
    """Two modes with the same answer: one token per forward, and two blocks."""
    ar = _answer(
        "ar", "Autoregressive", [(i, "ar", i, i + 1, 24.0 + 10 * i, i + 1) for i in range(9)]
    )
    blocks = [
        (i, "unmasked", i // 5, 1 + i % 3, 50.0 + 20 * (i // 5), 4 * (1 + i // 5)) for i in range(9)
    ]
    diffusion = _answer("diffusion", "Block diffusion", blocks)
    record: dict[str, Any] = {
        "format": "vlm-dlm.comparison/1",
        "created": "2026-05-04T10:11:12.000Z",
        "model": "vlm-dlm",
        "prompt": "Describe the image.",
        "modes": ["ar", "diffusion"],
        "options": {"threshold": 0.9, "block_length": 5, "max_tokens": 64, "include_drafts": True},
        "mode_options": {"diffusion": {"threshold": 0.9, "block_length": 5}},
        "parallel": False,
        "summary": {
            "vision_ms": 8.0,
            "prefill_ms": 6.0,
            "prompt_tokens": 40,
            "image_tokens": 28,
            "is_prompt_cached": False,
            "is_parallel": False,
            "total_ms": 210.0,
            "agreement": {"ar": None, "diffusion": _agreement()},
            "images": [{"width": 168, "height": 112, "columns": 6, "rows": 4, "num_tokens": 28}],
        },
        "answers": {"ar": ar, "diffusion": diffusion},
        "runs": [{"ar": {"tokens_per_second": 90.0}, "diffusion": {"tokens_per_second": 110.0}}],
        "image": {"name": "holiday.png", "width": 320, "height": 200},
    }
    return {**record, **changes}


def _agreement() -> dict[str, Any]:
    return {
        "is_identical": True,
        "num_equal_tokens": 9,
        "share": 1.0,
        "first_difference": None,
    }


def _answer(mode: str, title: str, rows: list[tuple[int, str, int, int, float, int]]) -> Any:
    tokens = [
        [100 + i, origin, block, step, 0.97, None, AR_TEXT[i], time_ms, forwards]
        for i, origin, block, step, time_ms, forwards in rows
    ]
    return {"title": title, "result": _result(mode, tokens[-1][8]), "tokens": tokens}


def _result(mode: str, num_forwards: int) -> dict[str, Any]:
    metrics = {
        "mode": mode,
        "time_to_first_token_ms": 24.0,
        "time_to_first_sentence_ms": 104.0,
        "generation_time_ms": 90.0,
        "queue_time_ms": 0.1,
        "vision_time_ms": 8.0 if mode == "ar" else 0.0,
        "prefill_time_ms": 6.0 if mode == "ar" else 0.2,
        "decode_time_ms": 90.0,
        "mean_itl_ms": 10.0,
        "tokens_per_second": 100.0,
        "num_forwards": num_forwards,
        "tokens_per_forward": 9 / num_forwards,
        "num_positions": 5 * num_forwards,
        "num_wasted_positions": 5 * num_forwards - 9,
        "speculative_decoding": None,
        "diffusion": None,
        "device": "cpu",
        "dtype": "float32",
    }
    return {
        "mode": mode,
        "text": "".join(AR_TEXT),
        "num_tokens": 9,
        "finish_reason": "stop",
        "usage": None,
        "timings": None,
        "metrics": metrics,
        "agreement": None if mode == "ar" else _agreement(),
        "error": None,
    }
