"""A checkpoint's JSON files: each holds an object, or is refused in the same words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vlm_dlm.errors import CheckpointError


def read_object(path: Path) -> dict[str, Any]:
    """What the file holds. Raises CheckpointError."""
    try:
        return _read(path)
    except OSError:
        raise CheckpointError(f"no {path.name} in {path.parent}") from None


def read_optional_object(path: Path) -> dict[str, Any]:
    """{} where there is no such file. Raises CheckpointError."""
    try:
        return _read(path)
    except FileNotFoundError:
        return {}
    except OSError:
        raise CheckpointError(f"{path} cannot be read") from None


def parse_object(text: str, name: str) -> dict[str, Any]:
    """name: of the file, for the error. Raises CheckpointError."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is not valid JSON: {error}") from None
    if not isinstance(raw, dict):
        raise CheckpointError(f"{name} does not hold a JSON object")
    return raw


def _read(path: Path) -> dict[str, Any]:
    """Raises OSError too."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from None
    return parse_object(text, str(path))
