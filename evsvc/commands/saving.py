"""Saving what comes: a file that appears when it is whole, and a bar that shows how far it is."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from typing import BinaryIO, TextIO

SHOWN_EVERY_S = 0.1
"""A bar is drawn no more often."""

_BAR_WIDTH = 30
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Saving:
    """A file that is being written; `keep` gives it its name."""

    def __init__(self, file: BinaryIO, path: str, temporary: str | None) -> None:
        self.file = file
        self._path = path
        self._temporary = temporary

    def keep(self) -> None:
        """All is written: have the file under its name, in place of one that was there."""
        self.file.close()
        if self._temporary is not None:
            os.replace(self._temporary, self._path)
            self._temporary = None

    def close(self) -> None:
        """Be done; what was not kept is removed."""
        with contextlib.suppress(OSError):
            self.file.close()
        if self._temporary is not None:
            os.unlink(self._temporary)


@contextlib.contextmanager
def saved_as(path: str) -> Iterator[Saving]:
    """Write a file beside `path` that takes its place when it is kept, and else is removed.

    What stands there and is no regular file, such as a terminal or a pipe, is written to itself; a
    link's target is replaced, not the link.  Raises OSError when it cannot be written.
    """
    path = os.path.realpath(path)
    mode = 0o666
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(path).st_mode
        if not stat.S_ISREG(found):
            with open(path, "wb") as file, contextlib.closing(Saving(file, path, None)) as saving:
                yield saving
            return
        mode = stat.S_IMODE(found)
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(4)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    file = os.fdopen(os.open(temporary, flags, mode), "wb")
    with contextlib.closing(Saving(file, path, temporary)) as saving:
        yield saving


class ProgressBar:
    """One line on a terminal, drawn over itself."""

    def __init__(self, terminal: TextIO, name: str) -> None:
        self._terminal = terminal
        self._name = name
        self._began_at: float | None = None
        self._shown_at = 0.0
        self._last: tuple[int, int | None, float] = (0, None, 0.0)

    def show(self, received: int, total: int | None, now: float) -> None:
        """Show that so many bytes have come; None for a whole that is not known."""
        if self._began_at is None:
            self._began_at = now
        self._last = (received, total, now)
        if now - self._shown_at >= SHOWN_EVERY_S:
            self._draw()

    def finish(self) -> None:
        """Show the last state, and go on to the next line."""
        if self._began_at is not None:
            self._draw()
            self._terminal.write("\n")
            self._terminal.flush()

    def _draw(self) -> None:
        received, total, now = self._last
        assert self._began_at is not None
        self._shown_at = now
        width = shutil.get_terminal_size().columns - 1
        line = f"{self._name} {progress_text(received, total, now - self._began_at)}"
        self._terminal.write(f"\r{line[:width]}\x1b[K")
        self._terminal.flush()


def progress_text(received: int, total: int | None, elapsed_s: float) -> str:
    """Return how far it is: a bar with a share where the whole is known, and the speed."""
    speed = f"{size_text(received / elapsed_s)}/s" if elapsed_s > 0 else "-"
    if not total:
        return f"{size_text(received)}  {speed}"
    share = min(received / total, 1.0)
    bar = ("#" * int(share * _BAR_WIDTH)).ljust(_BAR_WIDTH, ".")
    return f"[{bar}] {share:4.0%}  {size_text(received)} of {size_text(total)}  {speed}"


def size_text(size: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {_UNITS[-1]}"
