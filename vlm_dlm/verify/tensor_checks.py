"""Names, shapes and dtypes of the stored tensors, and whether a draft adapter lies beside them."""

from __future__ import annotations

import math

from vlm_dlm.checkpoint.manifest import TOLERATED_SUFFIXES
from vlm_dlm.checkpoint.model_types import expected_tensors
from vlm_dlm.errors import CheckpointError
from vlm_dlm.verify.files import CheckpointFiles
from vlm_dlm.verify.finding import Outcome, compared

NUM_SHOWN = 3


def tensor_list(files: CheckpointFiles) -> Outcome:
    """Every tensor there, of its shape."""
    wanted = expected_tensors(files.config)
    wrong = [
        f"{name} is {'missing' if name not in files.manifest else list(files.manifest[name].shape)}"
        for name, shape in wanted.items()
        if name not in files.manifest or files.manifest[name].shape != shape
    ]
    total = sum(math.prod(shape) for shape in wanted.values())
    evidence = f"{len(wanted)} tensors, {total:,} parameters"
    return compared(not wrong, _shown(wrong) or evidence)


def stray_tensors(files: CheckpointFiles) -> Outcome:
    """Names that nothing here reads."""
    stray = [name for name in files.manifest if name not in expected_tensors(files.config)]
    known = [name for name in stray if name.endswith(TOLERATED_SUFFIXES)]
    unknown = [name for name in stray if name not in known]
    evidence = f"{len(known)} of known exporters, ignored" if known else "none"
    return compared(not unknown, _shown(unknown) or evidence)


def storage_dtype(files: CheckpointFiles) -> Outcome:
    """BF16 throughout."""
    kinds = sorted({info.dtype for info in files.manifest.values()})
    return compared(kinds == ["BF16"], f"stored as {', '.join(kinds)}")


def draft_adapter(files: CheckpointFiles) -> Outcome:
    """None in the folder; one that is given must fit."""
    if files.adapter is None:
        return compared(True, "no folder linear_spec_lora and no --adapter: drafts run without one")
    from vlm_dlm.model.lora_loading import check_draft_adapter

    try:
        rank, scale, num_tensors = check_draft_adapter(files.config, files.adapter)
    except CheckpointError as error:
        return compared(False, f"an adapter that does not fit: {error}")
    fits = f"{num_tensors} tensors of rank {rank}, scale {scale:g}, fit o_proj of every layer"
    if files.adapter.parent == files.folder:
        return compared(False, f"the checkpoint brings an adapter: {fits}")
    return compared(True, f"the adapter that was given: {fits}")


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - NUM_SHOWN} more" if len(names) > NUM_SHOWN else ""
    return ", ".join(names[:NUM_SHOWN]) + more
