"""Imports of torchao without what it says on the way."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Kernels for other GPUs that do not load, and a notice for torchao's own developers.
NOISY = ("torchao", "torch.utils._pytree")


class _OnlyErrors(logging.Filter):
    """Drops what the noisy loggers and those below them say, errors apart."""

    def filter(self, record: logging.LogRecord) -> bool:
        is_noisy = any(f"{record.name}.".startswith(f"{name}.") for name in NOISY)
        return not is_noisy or record.levelno >= logging.ERROR


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Keep warnings back while the context lasts; errors are still logged.

    A logger's own filter does not see what loggers below it say, so the root's handlers get it too;
    torch's loggers have handlers of their own.
    """
    quiet = _OnlyErrors()
    last = logging.lastResort  # writes where there is no handler
    places: list[logging.Filterer] = [logging.getLogger(name) for name in NOISY]
    places += [*logging.getLogger().handlers, *([] if last is None else [last])]
    for place in places:
        place.addFilter(quiet)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for place in places:
            place.removeFilter(quiet)
