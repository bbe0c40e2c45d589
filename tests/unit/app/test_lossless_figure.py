"""What `/v1/models` and the page say of losslessness holds for this server's numbers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vlm_dlm_app.state import Services


def services(dtype: str | None, told: str = "auto") -> Services:
    engine: Any = SimpleNamespace(state_of=lambda _: SimpleNamespace(device="cpu", dtype=dtype))
    settings: Any = SimpleNamespace(device="auto", dtype=told)
    rest: Any = None
    return Services(settings, rest, engine, rest, rest, rest, rest, rest, rest, rest, 0)


@pytest.mark.parametrize(
    ("dtype", "told", "expected"),
    [
        ("float32", "auto", True),
        ("float32, int8 weights", "auto", True),
        ("bfloat16", "auto", False),
        ("bfloat16, int4 weights", "auto", False),
        (None, "float32", True),
        (None, "auto", False),
    ],
)
def test_drafts_are_lossless_in_float32_alone(dtype: str | None, told: str, expected: bool) -> None:
    server = services(dtype, told)
    assert server.is_lossless("linear_spec") is expected
    assert server.is_lossless("quadratic_spec") is expected
    assert server.is_lossless("ar"), "it is what the others are compared with"
    assert not server.is_lossless("diffusion")
