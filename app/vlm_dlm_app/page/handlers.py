"""What is served under the page: every handler by method and address, and why it is needed.

Gradio brings many more, and each of its versions changes some. None is reached unless it stands
here, and what it is given is held to the form that stands here too. `tests/api/test_page_handlers`
walks Gradio's own router, so that a new handler is looked at before it is served.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from starlette.exceptions import HTTPException

from vlm_dlm_app.http.errors import NO_ADDRESS, ApiError
from vlm_dlm_app.page.assets import SCRIPT_PATH

API = "/gradio_api"
UPLOAD_PATH = f"{API}/upload"
PROGRESS_PATH = f"{API}/upload_progress"
FILE_PREFIX = f"{API}/file="
FREE_PATH = "/page/free"
# Where a picture lies, as clients are told; on the disk it lies elsewhere.
UPLOADED = "/uploads/"
# Forms of what stands in an address or in a query. No colon, no percent sign, no backslash and no
# two dots or strokes in a row: neither a URL nor a way out of a folder can be written with them.
_FORMS = {
    "path": r"[A-Za-z0-9_-]+(?:[./][A-Za-z0-9_-]+)*",
    "path_or_url": rf"{UPLOADED}[0-9a-f]{{32}}\.[a-z]{{3,4}}",
    "api_name": r"[A-Za-z0-9_]{1,64}",
    "event_id": r"[0-9a-f]{32}",
    "session_hash": r"[A-Za-z0-9_-]{1,64}",
    "upload_id": r"[A-Za-z0-9_-]{1,64}",
}
MAX_PATH_CHARS = 300
_PLACE = re.compile(r"\{(\w+)(?::path)?\}")


class Takes(Enum):
    """What a handler does with a body or a connection, which is checked before it is asked."""

    NOTHING = "nothing"
    JOIN = "a call of one of the page's functions"
    CALL = "a call of a named endpoint"
    CANCEL = "the end of a call"
    RESET = "nothing that matters"
    STREAM = "a connection that stays open"
    FORM = "files"
    MCP = "messages of MCP, which has its own checks"


@dataclass(frozen=True, slots=True)
class Handler:
    """One entry.

    template: the address as a router writes it.
    reason: who needs it.
    is_own: it is answered by us and never by Gradio.
    query: names of what may stand in the query.
    """

    method: str
    template: str
    reason: str
    takes: Takes = Takes.NOTHING
    is_own: bool = False
    query: tuple[str, ...] = ()
    form: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        pieces = _PLACE.split(self.template)
        text = "".join(
            _group(piece) if index % 2 else re.escape(piece) for index, piece in enumerate(pieces)
        )
        object.__setattr__(self, "form", re.compile(text))


def _group(name: str) -> str:
    return f"(?P<{name}>{_FORMS[name]})"


@dataclass(frozen=True, slots=True)
class Found:
    """A handler, and what stood in the places of its address."""

    handler: Handler
    places: Mapping[str, str]


HANDLERS = (
    Handler("GET", "/", "the page itself"),
    Handler("GET", "/config", "gradio_client begins with it"),
    Handler("GET", "/theme.css", "the page's colours"),
    Handler("GET", "/favicon.ico", "browsers ask for it"),
    Handler("GET", "/manifest.json", "the page names it"),
    Handler("GET", "/robots.txt", "search engines ask for it"),
    Handler("GET", "/assets/{path:path}", "the page's scripts and styles"),
    Handler("GET", "/static/{path:path}", "the page's fonts and pictures"),
    Handler("GET", f"{API}/app_id", "the page looks whether it is still the same server"),
    Handler("GET", f"{API}/info", "gradio_client reads names and parameters"),
    Handler("GET", f"{API}/theme.css", "the page's colours"),
    Handler("GET", f"{API}/startup-events", "the page asks once it is there"),
    Handler("POST", f"{API}/queue/join", "every button, and gradio_client", Takes.JOIN),
    Handler(
        "GET",
        f"{API}/queue/data",
        "what came of it",
        Takes.STREAM,
        query=("session_hash",),
    ),
    Handler("POST", f"{API}/call/{{api_name}}", "calls by plain HTTP", Takes.CALL),
    Handler("GET", f"{API}/call/{{api_name}}/{{event_id}}", "what came of those", Takes.STREAM),
    Handler("POST", f"{API}/cancel", "the page and gradio_client end a call", Takes.CANCEL),
    Handler("POST", f"{API}/reset", "gradio_client says that it ends one", Takes.RESET),
    Handler("GET", SCRIPT_PATH, "the live view", is_own=True),
    Handler("POST", FREE_PATH, "the page lets go of its pictures", is_own=True),
    Handler(
        "POST", UPLOAD_PATH, "a picture comes in", Takes.FORM, is_own=True, query=("upload_id",)
    ),
    Handler("GET", PROGRESS_PATH, "the page asks how far it is", is_own=True, query=("upload_id",)),
    Handler("GET", f"{FILE_PREFIX}{{path_or_url:path}}", "the picture is shown", is_own=True),
)
MCP_HANDLERS = tuple(
    Handler("POST", f"{API}/mcp{end}", "tools for MCP", Takes.MCP, is_own=True) for end in ("", "/")
)


def handlers(has_mcp: bool = False) -> tuple[Handler, ...]:
    """All that are served."""
    return (*HANDLERS, *MCP_HANDLERS) if has_mcp else HANDLERS


def find_handler(method: str, path: str, has_mcp: bool = False) -> Found:
    """Raises ApiError (404) or HTTPException (405, naming the methods there are)."""
    found = matching(path, has_mcp)
    if not found:
        raise ApiError("not_found", NO_ADDRESS)
    for one in found:
        if one.handler.method == method:
            return one
    raise HTTPException(405, headers={"Allow": ", ".join(one.handler.method for one in found)})


def form_of(name: str) -> re.Pattern[str]:
    """How a value of this name has to look."""
    return re.compile(_FORMS[name])


def matching(path: str, has_mcp: bool = False) -> list[Found]:
    """Every handler at this address, one per method."""
    if len(path) > MAX_PATH_CHARS:
        return []
    tried = ((handler, handler.form.fullmatch(path)) for handler in handlers(has_mcp))
    return [Found(handler, match.groupdict()) for handler, match in tried if match is not None]
