"""`vlm-dlm serve`: the HTTP server. Flags > VLM_DLM_* variables > settings file > defaults."""

from __future__ import annotations

import contextlib
import importlib
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlm_dlm.cli import options as opt
from vlm_dlm.errors import BadInputError

if TYPE_CHECKING:
    from vlm_dlm.serving.engine_state import EngineState

NEEDS = 'serving needs more packages; install them with: pip install "vlm-dlm[app]"'
STEPS = 20  # progress is shown in this many steps per phase
NO_SETTINGS = ("open_page", "config")  # every other parameter of `serve` is named after its setting


def serve(
    context: typer.Context,
    host: Annotated[
        str | None, typer.Option(metavar="HOST", help="Address to bind.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", help="0 takes a free one.", show_default="8000")
    ] = None,
    model: opt.Model = None,
    adapter: opt.Adapter = None,
    device: Annotated[
        str | None, typer.Option(metavar="auto|cpu|cuda", help="Where to run.", show_default="auto")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="auto|float32|bfloat16",
            help="Number format of the weights.",
            show_default="auto",
        ),
    ] = None,
    quantize: opt.Quantize = None,
    api_keys: Annotated[
        list[str] | None,
        typer.Option(
            "--api-key",
            metavar="KEY",
            help="Key that clients must send; repeat for several. Others on this machine can see "
            "flags: better set VLM_DLM_API_KEYS.",
        ),
    ] = None,
    single_process: Annotated[
        bool | None,
        typer.Option("--single-process", help="Run the engine in the server's own process."),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(metavar="own|vllm", help="What runs the mode ar.", show_default="own"),
    ] = None,
    vllm_url: Annotated[
        str | None, typer.Option(metavar="URL", help="A vLLM server that runs already.")
    ] = None,
    vllm_python: Annotated[
        str | None, typer.Option(metavar="FILE", help="Interpreter of an environment with vLLM.")
    ] = None,
    vllm_alone: Annotated[
        bool | None,
        typer.Option("--vllm-alone", help="Offer only what vLLM runs; start no engine of our own."),
    ] = None,
    max_waiting: Annotated[
        int | None, typer.Option(metavar="N", help="Requests that may wait.", show_default="64")
    ] = None,
    drain_s: Annotated[
        float | None,
        typer.Option(metavar="S", help="Seconds to finish in at the end.", show_default="30"),
    ] = None,
    page: Annotated[
        bool | None, typer.Option(help="Show the page at /.", show_default="--page")
    ] = None,
    page_mcp: Annotated[
        bool | None, typer.Option("--page-mcp", help="Offer the page's endpoints as MCP tools.")
    ] = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page in a browser once it is ready.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings file (TOML).")
    ] = None,
) -> None:
    """Serve the model over HTTP, for OpenAI clients and others."""
    flags = {name: value for name, value in context.params.items() if name not in NO_SETTINGS}
    flags |= {"adapter": adapter and str(adapter), "api_keys": api_keys or None}
    if backend is None and vllm_url is not None:
        flags["backend"] = "vllm"
    _run(flags, config, _open if open_page else _show)


def _run(flags: dict[str, Any], config: Path | None, on_page: Callable[[str], object]) -> None:
    settings = _import("vlm_dlm_app.settings.sources").load_settings(flags, config)
    _import("vlm_dlm_app.server").serve(settings, _say, Progress(), on_page)


def _show(address: str) -> None:
    _say(f"The page is at {address}")


def _open(address: str) -> None:
    _show(address)
    webbrowser.open(address)


def _import(name: str) -> Any:
    """By name: the library never imports the server, which is installed with the commands."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("vlm_dlm_app", "vlm_dlm"):
            raise
        raise BadInputError(NEEDS) from None


def _say(line: str) -> None:
    """Whether anybody still reads it is nothing to the server."""
    with contextlib.suppress(OSError):
        typer.echo(line, err=True)


class Progress:
    """Writes how loading goes, one short line per step."""

    def __init__(self) -> None:
        self._shown = ""

    def __call__(self, state: EngineState) -> None:
        words = {"loading": "Loading", "warming": "Warming up"}.get(state.phase)
        if words is None:
            return
        percent = int(state.progress * STEPS) * 100 // STEPS
        line = f"{words} {percent} %"
        if line != self._shown:
            self._shown = line
            _say(line)
