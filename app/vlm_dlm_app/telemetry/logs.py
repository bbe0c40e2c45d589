"""Where log lines go and what they look like: text or JSON on stderr, one line per record."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

TEXT = "%(asctime)s %(levelname)s %(place)s %(message)s"
_OURS = "vlm_dlm_app."


class LineFormatter(logging.Formatter):
    """Text. Line ends inside a message are written as \\n, those of a traceback stay.

    place: the logger's name, without the package for the server's own, which are nearly all.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.place = record.name.removeprefix(_OURS)
        record.message = _on_one_line(record.message)
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """One JSON object per line, its traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class WithoutRoot(logging.Filter):
    """What a package says through the root logger may quote what a client sent: only its place is
    told."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "root":
            record.msg, record.args = "a warning at %s:%s", (record.module, record.lineno)
            record.exc_info = None
        return True


def set_up_logs(level: str, log_format: str) -> None:
    """Send everything from `level` up to stderr. Other packages only speak up from warnings on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else LineFormatter(TEXT))
    handler.addFilter(WithoutRoot())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in ("vlm_dlm_app", "vlm_dlm"):
        logging.getLogger(name).setLevel(level.upper())


def _on_one_line(text: str) -> str:
    """Control characters escaped, so that nobody can write a line or a colour of their own."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
