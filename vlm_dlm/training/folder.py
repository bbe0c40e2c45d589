"""The folder of a run: which files it has, and whether a run may begin there. Free of torch."""

from __future__ import annotations

from pathlib import Path

from vlm_dlm.checkpoint.model_types import read_config
from vlm_dlm.errors import BadInputError, CheckpointError

STATE_FOLDER = "state"
CHECKPOINT = "checkpoint.pt"


def open_folder(out: Path, resume: bool, start: Path | None) -> None:
    """Check that a run can begin or go on in `out`, and make the folder of its state.

    Raises CheckpointError for `resume` without a state, a state without `resume`, `resume` with
    `start`, or a `start` that is no checkpoint; BadInputError for a folder that cannot be made.
    """
    path = out / STATE_FOLDER / CHECKPOINT
    if resume != path.exists():
        problem = "there is no state to resume from" if resume else "a run is there already"
        raise CheckpointError(f"{problem}: {path}")
    if resume and start is not None:
        raise CheckpointError("a resumed run has weights already; it takes no other start")
    if start is not None:
        read_config(start)
    try:
        (out / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"the folder {out} cannot be made: {error.strerror}") from None
