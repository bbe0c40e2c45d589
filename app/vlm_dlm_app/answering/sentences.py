"""When an answer had its first whole sentence, which is what a reader waits for."""

from __future__ import annotations

import re

# An end of sentence with a space behind it, or at the end of what is there so far; then not behind
# a digit, for that may be a number still being written.
_END = re.compile(r"[.!?][\"')\]]*(?=\s)|(?<!\d)[.!?][\"')\]]*$|[。！？]")


class FirstSentence:
    """end_s: the moment it was whole, on the clock of the moments given; None until then."""

    def __init__(self) -> None:
        self.end_s: float | None = None
        self._text = ""

    def add(self, text: str, time_s: float) -> None:
        """More of the answer."""
        if self.end_s is None and text:
            self._text += text
            if _END.search(self._text.rstrip("\n")):
                self.end_s = time_s

    def finish(self, time_s: float) -> None:
        """The answer is over: what it holds counts as a sentence, if it holds words."""
        if self.end_s is None and self._text.strip():
            self.end_s = time_s
