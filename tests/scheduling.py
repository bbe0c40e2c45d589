"""Which tests one worker runs in a row: those of a file, and whole folders that share servers.

A shared server lives while its folder's tests run. With two workers that take files in turn, each
would start it again and again.
"""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

FOLDERS = ("tests/e2e/page/",)


class ByServer(LoadFileScheduling):
    """`--dist loadfile` with FOLDERS each as one file."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return next((folder for folder in FOLDERS if file.startswith(folder)), file)
