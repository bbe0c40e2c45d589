"""Run as a program: a made-up fifth mode joins MODES before anything else is imported, and what the
command line, the requests and their documentation then say goes to stdout as JSON."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from typing import Any, ClassVar

from vlm_dlm.decoding import MODES, DecodingMode
from vlm_dlm.decoding.options import ModeOption

_WARMTH = ModeOption(
    "warmth", int, "How warm it is.", 2, 9, "W", request_names=("warmth", "own_warmth")
)


@dataclass(frozen=True, slots=True)
class FifthParams:
    warmth: int = 3

    def __post_init__(self) -> None:
        _WARMTH.check(Fifth.name, self.warmth)


class Fifth(DecodingMode[FifthParams, Any, Any]):
    name: ClassVar[str] = "fifth"
    title: ClassVar[str] = "A fifth"
    summary: ClassVar[str] = "not at all"
    Params: ClassVar[type] = FifthParams
    is_lossless: ClassVar[bool] = False
    options = (_WARMTH,)


MODES[Fifth.name] = Fifth


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
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
