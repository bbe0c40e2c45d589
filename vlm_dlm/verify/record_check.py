"""Whether a fetched checkpoint still is what was fetched."""

from __future__ import annotations

from vlm_dlm.checkpoint.record import RECORD_FILE, check_record, read_record
from vlm_dlm.errors import CheckpointError
from vlm_dlm.verify.files import CheckpointFiles
from vlm_dlm.verify.finding import Outcome, Verdict, skipped


def recorded_files(files: CheckpointFiles) -> Outcome:
    """As every load does: weights by their sizes, the other files by their checksums."""
    try:
        record = read_record(files.folder)
        check_record(files.folder)
    except CheckpointError as error:
        return Outcome(Verdict.DIFFERS, str(error))
    if record is None:
        return skipped(f"no {RECORD_FILE}: `vlm-dlm fetch` did not bring this checkpoint")
    return Outcome(
        Verdict.CONFIRMED,
        f"{len(record.files)} files of {record.repo}@{record.commit}: weights have the recorded "
        "sizes, the others the recorded checksums",
    )
