"""Where a text that comes in pieces first contains one of several strings.

Characters are looked at one by one, so the result does not depend on where the pieces were cut:
the string that is complete first counts, and of those complete at the same character the longest.
"""

from __future__ import annotations


class StopStrings:
    """Lets text through until a stop string is complete; holds back what may begin one.

    is_found: a stop string was complete; nothing is let through any more.
    """

    __slots__ = ("_fallbacks", "_held", "_matched", "_stops", "is_found")

    def __init__(self, stops: tuple[str, ...]) -> None:
        """stops: none of them empty."""
        self._stops = stops
        self._fallbacks = [_fallbacks(stop) for stop in stops]
        self._matched = [0] * len(stops)  # leading characters of each that end the text so far
        self._held = ""
        self.is_found = False

    def push(self, piece: str, *, is_early: bool = False) -> str:
        """More text; returns what is now certain to stand before any stop string. is_early: one
        that is complete in this piece does not count."""
        if self.is_found:
            return ""
        text = self._held + piece
        for end in range(len(self._held) + 1, len(text) + 1):
            length = self._advance(text[end - 1])
            if length and not is_early:
                self.is_found, self._held = True, ""
                return text[: end - length]
        num_clear = len(text) - max(self._matched, default=0)
        self._held = text[num_clear:]
        return text[:num_clear]

    def flush(self) -> str:
        """The text is at its end: what was held back belongs to it."""
        held, self._held = self._held, ""
        self._matched = [0] * len(self._stops)
        return held

    def _advance(self, char: str) -> int:
        """One more character. Returns the length of the longest stop string it completes, or 0."""
        found = 0
        for i, stop in enumerate(self._stops):
            matched = self._matched[i]
            while matched and stop[matched] != char:
                matched = self._fallbacks[i][matched - 1]
            matched += stop[matched] == char
            if matched == len(stop):
                found = max(found, matched)
                matched = self._fallbacks[i][matched - 1]  # for one that does not count
            self._matched[i] = matched
        return found


def _fallbacks(stop: str) -> list[int]:
    """For each prefix the length of its longest proper prefix that is also its end (Knuth, Morris
    and Pratt, 1977)."""
    lengths = [0] * len(stop)
    matched = 0
    for i in range(1, len(stop)):
        while matched and stop[i] != stop[matched]:
            matched = lengths[matched - 1]
        matched += stop[i] == stop[matched]
        lengths[i] = matched
    return lengths
