"""Run as a program: a made-up fifth mode joins MODES before anything else is imported, and what the
command line, the requests, their documentation and the page then say goes to stdout as JSON."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, cast

from vlm_dlm.decoding import MODES
from vlm_dlm.decoding.autoregressive import Autoregressive
from vlm_dlm.decoding.options import ModeOption

UP_S = 60.0
_WARMTH = ModeOption(
    "warmth", int, "How warm it is.", 2, 9, "W", request_names=("warmth", "own_warmth")
)


@dataclass(frozen=True, slots=True)
class FifthParams:
    warmth: int = 3

    def __post_init__(self) -> None:
        _WARMTH.check(Fifth.name, self.warmth)


class Fifth(Autoregressive):
    name: ClassVar[str] = "fifth"
    title: ClassVar[str] = "A fifth"
    summary: ClassVar[str] = "not at all"
    Params: ClassVar[type] = FifthParams
    is_lossless: ClassVar[bool] = False
    options = (_WARMTH,)
    aliases: ClassVar[tuple[str, ...]] = ()


MODES[Fifth.name] = Fifth


def of_page() -> dict[str, Any]:
    """What a browser and programs are told, and what comes of two sweeps."""
    import httpx

    from tests.api.serving import live_server, until
    from tests.integration.app.page_tab import Tab
    from vlm_dlm.preflight import open_checkpoint

    with (
        live_server(open_checkpoint(), has_page=True) as server,
        httpx.Client(base_url=server.url, timeout=30.0) as http,
    ):
        until(lambda: "gradio_config" in http.get("/").text, UP_S)
        found = {"config": http.get("/config").json(), "script": http.get("/page/page.js").text}
        found["info"] = http.get("/gradio_api/info").json()["named_endpoints"]
        for name, axes in (("usual", None), ("chosen", {"warmth": [2, 12, 5]})):
            messages = Tab(cast("Any", server), http).press(
                "sweep", "Hi", "", Fifth.name, None, None, 4, axes
            )
            (found[name],) = [m["output"]["data"][0] for m in messages if "output" in m]
    found["tool_options"] = None
    if find_spec("mcp"):
        from vlm_dlm_app.page.tools import OPTIONS

        found["tool_options"] = OPTIONS
    return found


def main() -> None:
    from tests.api.serving import PlayedEngine
    from vlm_dlm.cli.main import run
    from vlm_dlm.preflight import open_checkpoint
    from vlm_dlm_app.answering.modes import mode_options
    from vlm_dlm_app.main import create_app
    from vlm_dlm_app.schemas.common import AnswerOptions
    from vlm_dlm_app.schemas.fields.page import written
    from vlm_dlm_app.settings.model import Settings

    found: dict[str, Any] = {}
    for command in ("generate", "compare"):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            run([command, "--help"])
        found[command] = said.getvalue()
    for typed in ("12", "5"):
        with contextlib.redirect_stderr(io.StringIO()) as said:
            run(["generate", "--mode", "fifth", "--warmth", typed, "--image", "nowhere.png"])
        found[f"typed {typed}"] = said.getvalue()
    app = create_app(Settings(), PlayedEngine(), open_checkpoint())
    found["openapi"] = app.openapi()
    asked = AnswerOptions.model_validate({"own_warmth": 7})
    found["params"] = mode_options(asked, "fifth", "ar")["fifth"].warmth
    found["fields"] = written()
    found |= of_page()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
