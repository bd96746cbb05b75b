"""`wsgi.errors`: what an application writes there goes to the log, line by line."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ..core.errors import ArgumentTypeError

logger = logging.getLogger("evsvc.wsgi")

MAX_LINE_CHARACTERS = 8192
"""A longer line becomes several records."""


class ErrorStream:
    """A text stream of one request; used by one thread at a time."""

    __slots__ = ("_line",)

    def __init__(self) -> None:
        self._line = ""

    def write(self, text: str) -> int:
        """Log each line that is whole, at level ERROR.

        Returns how many characters it took, which are all.  Raises ArgumentTypeError for what is
        no str.
        """
        if not isinstance(text, str):
            raise ArgumentTypeError(f"wsgi.errors takes a str, not {type(text).__name__}")
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            _log(line)
        if len(self._line) > MAX_LINE_CHARACTERS:
            self.flush()
        return len(text)

    def writelines(self, texts: Iterable[str]) -> None:
        """Write several texts, as they are."""
        for text in texts:
            self.write(text)

    def flush(self) -> None:
        """Log what there is of a line that is not whole."""
        line, self._line = self._line, ""
        if line:
            _log(line)


def _log(line: str) -> None:
    for start in range(0, len(line) or 1, MAX_LINE_CHARACTERS):
        logger.error("%s", line[start : start + MAX_LINE_CHARACTERS])
