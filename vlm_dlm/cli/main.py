"""Entry point: the commands, and what a person sees when one of them fails.

Imports neither torch nor transformers; commands do once their input is checked.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from vlm_dlm import __version__
from vlm_dlm.cli.compare import compare
from vlm_dlm.cli.doctor import doctor
from vlm_dlm.cli.evaluate import evaluate
from vlm_dlm.cli.fetch import fetch
from vlm_dlm.cli.generate import generate
from vlm_dlm.cli.mode_options import with_mode_options
from vlm_dlm.cli.sampling_options import with_sampling
from vlm_dlm.cli.serve import serve
from vlm_dlm.cli.train import train
from vlm_dlm.cli.verify import verify
from vlm_dlm.environment import DEBUG_VARIABLE
from vlm_dlm.errors import EngineError, VlmDlmError

BAD_INPUT, INTERNAL, INTERRUPTED = 2, 1, 130

app = typer.Typer(
    name="vlm-dlm",
    help="Ask a vision-language model about images, in four decoding modes.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(with_mode_options(with_sampling(generate)))
app.command()(with_mode_options(with_sampling(compare)))
app.command()(serve)
app.command()(train)
app.command("eval")(with_mode_options(evaluate))
app.command()(fetch)
app.command()(doctor)
app.command()(verify)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"vlm-dlm {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show version.")
    ] = False,
) -> None:
    """Ask a vision-language model about images, in four decoding modes."""


def run(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code: 0, 1 internal error, 2 bad input, 130 interrupted.

    Every failure is one line on stderr. VLM_DLM_DEBUG=1 adds the traceback.
    """
    is_debug = os.environ.get(DEBUG_VARIABLE) == "1"
    if not is_debug and not sys.warnoptions:
        warnings.simplefilter("ignore")  # libraries' warnings are for developers
    try:
        command = typer.main.get_command(app)
        code = command.main(list(arguments), prog_name="vlm-dlm", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, Abort):
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as in `... | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERNAL
    except Exception as error:
        if is_debug:
            traceback.print_exc()
        code, message = _explain(error)
    typer.echo(f"Error: {' '.join(message.split())}", err=True)
    return code


def _explain(error: Exception) -> tuple[int, str]:
    """Exit code and sentence."""
    if isinstance(error, EngineError):
        return INTERNAL, str(error)
    if isinstance(error, VlmDlmError):
        return BAD_INPUT, str(error)
    if isinstance(error, TyperException):
        return error.exit_code, error.format_message()
    name = type(error).__name__
    return INTERNAL, f"internal error ({name}: {error}); {DEBUG_VARIABLE}=1 shows more"


def main() -> None:
    """Entry point of the `vlm-dlm` script."""
    sys.exit(run(sys.argv[1:]))
