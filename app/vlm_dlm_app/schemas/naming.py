"""Names in the API's description that are decided elsewhere."""

from __future__ import annotations

from typing import TypeVar

from vlm_dlm.request import DEFAULT_MODE

_Described = TypeVar("_Described")


def naming_default(described: _Described) -> _Described:
    """A route or body whose docstring has {default_mode} for the mode that writes without."""
    described.__doc__ = (described.__doc__ or "").format(default_mode=DEFAULT_MODE)
    return described
