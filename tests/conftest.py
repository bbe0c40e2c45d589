"""Marks from folders: a test under `tests/unit` is `unit`, and so on."""

from __future__ import annotations

from pathlib import Path

import pytest

TIERS = ("unit", "integration", "gpu", "weights", "browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = Path(__file__).parent
    for item in items:
        if not item.path.is_relative_to(root):
            continue
        folder = item.path.relative_to(root).parts[0]
        if folder in TIERS:
            item.add_marker(getattr(pytest.mark, folder))
