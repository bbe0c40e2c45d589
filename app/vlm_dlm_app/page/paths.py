"""Which addresses are the page's own. Everything else keeps the answers of the API."""

from __future__ import annotations

from vlm_dlm_app.page.assets import SCRIPT_PATH

_API = "/gradio_api/"
_FILES = frozenset(
    {"/", SCRIPT_PATH, "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"}
)
_FOLDERS = ("/assets/", "/static/", "/svelte/")
# Of Gradio's interface what its own page and client need. The rest (a proxy, run history, editing,
# monitoring, files by path) stays shut.
_CALLS = (
    *("app_id", "call/", "cancel", "component_server", "config", "info"),
    *("queue/join", "queue/data", "queue/status", "reset", "startup-events"),
    *("upload", "upload_progress", "file=", "theme.css"),
)
_MCP = frozenset({"mcp", "mcp/"})


def is_page_path(path: str, has_mcp: bool = False) -> bool:
    """Whether the page answers at this address."""
    if path in _FILES or path.startswith(_FOLDERS):
        return True
    name = path.removeprefix(_API)
    return path.startswith(_API) and (name.startswith(_CALLS) or (has_mcp and name in _MCP))
