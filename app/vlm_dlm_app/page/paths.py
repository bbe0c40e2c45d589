"""Which addresses are the page's own. Everything else keeps the answers of the API."""

from __future__ import annotations

from vlm_dlm_app.page.handlers import matching


def is_page_path(path: str, has_mcp: bool = False) -> bool:
    """Whether the page answers at this address, by whatever method."""
    return bool(matching(path, has_mcp))
