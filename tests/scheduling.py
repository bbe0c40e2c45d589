"""Which tests one worker runs in a row: those of a file, whole folders that share servers, and all
that are to be alone, as the others wait for each of them.

A shared server lives while its folder's tests run. With two workers that take files in turn, each
would start it again and again.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).parents[1]
ALONE = "alone"
FOLDERS = ("tests/e2e/page/",)


class ByServer(LoadFileScheduling):
    """`--dist loadfile` with FOLDERS each as one file."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        if _is_alone(file):
            return ALONE
        return next((folder for folder in FOLDERS if file.startswith(folder)), file)


@lru_cache
def _is_alone(file: str) -> bool:
    """Whether the whole file is marked so, which is how it is done here."""
    return f"pytestmark = pytest.mark.{ALONE}\n" in (ROOT / file).read_text(encoding="utf-8")
