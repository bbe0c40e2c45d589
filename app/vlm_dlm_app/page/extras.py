"""What the page needs beyond the usual packages, found missing before anything is started."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from vlm_dlm.errors import BadInputError

if TYPE_CHECKING:
    from vlm_dlm_app.settings.model import Settings


def check_extras(settings: Settings) -> None:
    """Raise BadInputError for a setting whose package is not installed."""
    if settings.page_mcp and find_spec("mcp") is None:
        raise BadInputError(
            "setting page_mcp needs a package that is not installed: pip install 'vlm-dlm[mcp]'"
        )
