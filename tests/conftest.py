"""Marks from folders (a test under `tests/unit` is `unit`, and so on), and shared fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# An example may take long on a busy machine; what a test means to bound it measures itself.
settings.register_profile("default", settings.get_profile("default"), deadline=None)
settings.load_profile("default")

TIERS = ("unit", "integration", "api", "e2e", "gpu", "weights", "browser", "vllm", "clients")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = Path(__file__).parent
    for item in items:
        if not item.path.is_relative_to(root):
            continue
        folder = item.path.relative_to(root).parts[0]
        if folder in TIERS:
            item.add_marker(getattr(pytest.mark, folder))


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete checkpoint folder with random weights. Read only."""
    from tests.checkpoints import write_tiny_checkpoint

    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def scene_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PNG of one held-out scene."""
    from vlm_dlm.training.samples import make_sample

    path = tmp_path_factory.mktemp("images") / "scene.png"
    make_sample(0, "heldout").image.resize((112, 84)).save(path)
    return path
