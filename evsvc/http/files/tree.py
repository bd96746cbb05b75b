"""A tree of files that no path leads out of.

A path is walked part by part with openat(2), each part opened without following a symbolic link:
there is no moment between looking and opening, and nothing to be resolved that could be `..`.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from ...core.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Sequence

# O_NONBLOCK: opening a FIFO that nobody writes to would stop the loop.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK

MAX_PARTS = 64
"""How deep a path may be; a deeper one leads nowhere."""


class OpenFile(Closing):
    """A regular file or a directory that was found, open.

    fd: its descriptor, until `detach`.
    """

    __slots__ = ("_fd", "status")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.status = os.fstat(fd)

    @property
    def fd(self) -> int:
        """The descriptor; -1 when it is closed or someone else's."""
        return self._fd

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.status.st_mode)

    def detach(self) -> int:
        """Return the descriptor, which is the caller's from here on."""
        fd, self._fd = self._fd, -1
        return fd

    def close(self) -> None:
        """Close the descriptor, unless it is someone else's; safe to repeat."""
        if self._fd >= 0:
            os.close(self.detach())


class Tree(Closing):
    """The files below one directory.

    follow_symlinks: whether symbolic links are followed, wherever they lead.  hidden: whether
    names that begin with a dot are found.  Raises OSError when `root` is no directory.
    """

    __slots__ = ("_fd", "_flags", "_hidden")

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        follow_symlinks: bool = False,
        hidden: bool = False,
    ) -> None:
        self._fd = os.open(root, _FLAGS | os.O_DIRECTORY)
        self._flags = _FLAGS if follow_symlinks else _FLAGS | os.O_NOFOLLOW
        self._hidden = hidden

    def open(self, parts: Sequence[bytes]) -> OpenFile | None:
        """Open what a path leads to; None where there is nothing that may be seen.

        parts: the names along the path, decoded; none is the root itself.
        """
        if self._fd < 0 or len(parts) > MAX_PARTS or not all(map(self._may_be_seen, parts)):
            return None
        fd = os.dup(self._fd)
        try:
            for part in parts:
                parent, fd = fd, os.open(part, self._flags, dir_fd=fd)
                os.close(parent)
            found = OpenFile(fd)
        except OSError:  # not there, not ours to read, a link, or on a file as if it were a folder
            os.close(fd)
            return None
        if found.is_file or found.is_directory:
            return found
        found.close()
        return None

    def close(self) -> None:
        """Find nothing any more; safe to repeat."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _may_be_seen(self, part: bytes) -> bool:
        if part in (b"", b".", b"..") or b"/" in part or b"\0" in part:
            return False
        return self._hidden or not part.startswith(b".")
