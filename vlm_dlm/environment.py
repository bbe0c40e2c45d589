"""The variables of the environment that are ours."""

from __future__ import annotations

import os

SETTINGS_PREFIX = "VLM_DLM_"
# Of that prefix, but no setting of the server: a failure of a command shows where it came from.
DEBUG_VARIABLE = f"{SETTINGS_PREFIX}DEBUG"


def without_settings() -> dict[str, str]:
    """The environment for a child that settings, keys of clients among them, do not concern."""
    return {name: v for name, v in os.environ.items() if not name.startswith(SETTINGS_PREFIX)}
