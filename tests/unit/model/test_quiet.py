"""What torchao says while it is imported is kept back, errors and other packages are not."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from vlm_dlm.model.quiet import quiet_imports


def test_warnings_of_loggers_below_are_kept_back_too(caplog: pytest.LogCaptureFixture) -> None:
    below = logging.getLogger("torchao.kernel.some_kernel")
    with quiet_imports():
        below.warning("no triton")
        below.error("broken")
        logging.getLogger("torchao").warning("old")
        logging.getLogger("torchaotic").warning("another package")
    below.warning("later")
    assert [record.getMessage() for record in caplog.records] == [
        "broken",
        "another package",
        "later",
    ]


def test_without_a_handler_it_is_quiet_too() -> None:
    code = (
        "import logging\nfrom vlm_dlm.model.quiet import quiet_imports\n"
        "with quiet_imports():\n"
        "    logging.getLogger('torchao.kernel').warning('kept back')\n"
        "logging.getLogger('torchao.kernel').warning('shown')\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert out.stderr == "shown\n"
