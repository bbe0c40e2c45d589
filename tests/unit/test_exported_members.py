"""The public surface is a list, and every name on it exists."""

from __future__ import annotations

import subprocess
import sys

import pytest

import vlm_dlm


def test_all_is_sorted_and_free_of_doubles() -> None:
    assert vlm_dlm.__all__ == sorted(set(vlm_dlm.__all__), key=_by_kind)


def _by_kind(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, as linters sort `__all__`."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("name", vlm_dlm.__all__)
def test_every_name_can_be_imported(name: str) -> None:
    assert getattr(vlm_dlm, name) is not None
    assert name in dir(vlm_dlm)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_like_this"):
        vlm_dlm.nothing_like_this  # noqa: B018


def test_import_is_free_of_heavy_packages() -> None:
    """Neither the package nor the checks before a run load torch."""
    code = (
        "import sys, vlm_dlm, vlm_dlm.preflight, vlm_dlm.cli.main;"
        "print([m for m in ('torch', 'transformers', 'accelerate') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
