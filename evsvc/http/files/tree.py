"""A tree of files that no path leads out of.

A path is walked part by part with openat(2), each part opened without following a symbolic link:
there is no moment between looking and opening, and nothing to be resolved that could be `..`.
Where links are followed within the tree, what a link says is walked in the same way, by us.

Only regular files and directories are ever opened: opening a device or a FIFO has effects.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Literal

from ...core.closing import Closing
from ...core.errors import ArgumentError, SocketError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# O_NONBLOCK: should a FIFO be put there after we looked, opening it would stop the loop.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK

# Errors of a path that leads nowhere, or to what we may not see.  Others, such as those of a
# process that has no descriptors left, say nothing about the path.
_NOT_THERE = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EACCES,
        errno.EPERM,
        errno.ELOOP,
        errno.EMLINK,  # FreeBSD's ELOOP
        errno.ENAMETOOLONG,
        errno.EILSEQ,
        errno.EINVAL,
        errno.ENXIO,
        errno.ENODEV,
    }
)

MAX_PARTS = 64
"""How deep a path may be; a deeper one leads nowhere."""

MAX_LINKS = 8
"""How many symbolic links a path may lead over, where they are followed within the tree."""

Follow = bool | Literal["within"]
"""Whether symbolic links are followed: never, everywhere, or where they stay in the tree."""


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

    def read(self) -> bytes:
        """Return all of a file; raises SocketError with EIO when it has become shorter."""
        size = self.status.st_size
        data = os.pread(self._fd, size, 0)
        if len(data) < size:
            raise SocketError(errno.EIO, f"the file is shorter than it was: {len(data)} of {size}")
        return data

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

    follow_symlinks: True follows symbolic links wherever they lead, "within" those that lead to
    what is in the tree, False none.  hidden: whether names that begin with a dot are found, or
    which of them; where a link leads does not matter for it.  Raises OSError when `root` is no
    directory, ArgumentError for another value.
    """

    __slots__ = ("_fd", "_flags", "_hidden", "_paths")

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        follow_symlinks: Follow = False,
        hidden: bool | Collection[str] = False,
    ) -> None:
        if follow_symlinks not in (True, False, "within"):
            raise ArgumentError(
                f'links are followed: True, False, "within"; not {follow_symlinks!r}'
            )
        self._hidden = hidden if isinstance(hidden, bool) else frozenset(map(os.fsencode, hidden))
        self._flags = _FLAGS if follow_symlinks is True else _FLAGS | os.O_NOFOLLOW
        # How an absolute link may spell the root; None where links are not looked into.
        self._paths: set[bytes] | None = None
        if follow_symlinks == "within":
            path = os.fsencode(root)
            self._paths = {os.path.abspath(path), os.path.realpath(path)}
        self._fd = os.open(root, _FLAGS | os.O_DIRECTORY)

    def open(self, parts: Sequence[bytes]) -> OpenFile | None:
        """Open what a path leads to; None where there is nothing that may be seen.

        parts: the names along the path, decoded; none is the root itself.  Raises OSError when it
        cannot be told, as when the process has no descriptors left.
        """
        if self._fd < 0 or len(parts) > MAX_PARTS or not all(map(self.may_be_seen, parts)):
            return None
        try:
            fd = self._walk(parts) if self._paths is None else self._walk_links(parts, self._paths)
        except OSError as exc:
            if exc.errno in _NOT_THERE:
                return None
            raise
        if fd is None:
            return None
        found = OpenFile(fd)
        if found.is_file or found.is_directory:
            return found
        found.close()
        return None

    def close(self) -> None:
        """Find nothing any more; safe to repeat."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def may_be_seen(self, part: bytes) -> bool:
        """Whether a name may be part of a path."""
        if part in (b"", b".", b"..") or b"/" in part or b"\0" in part:
            return False
        if not part.startswith(b"."):
            return True
        return self._hidden if isinstance(self._hidden, bool) else part in self._hidden

    def _walk(self, parts: Sequence[bytes]) -> int | None:
        """Open a path, and let the kernel follow links, or refuse to."""
        if not parts:
            return os.dup(self._fd)
        fd = self._fd
        try:
            for part in parts[:-1]:
                inner = os.open(part, self._flags | os.O_DIRECTORY, dir_fd=fd)
                if fd != self._fd:
                    os.close(fd)
                fd = inner
            follow = not self._flags & os.O_NOFOLLOW
            if not _is_plain(os.stat(parts[-1], dir_fd=fd, follow_symlinks=follow)):
                return None
            return os.open(parts[-1], self._flags, dir_fd=fd)
        finally:
            if fd != self._fd:
                os.close(fd)

    def _walk_links(self, parts: Sequence[bytes], roots: set[bytes]) -> int | None:
        """Open a path, and follow links as long as they stay in the tree."""
        folders = [self._fd]  # from the root to where we are
        left = list(reversed(parts))
        links = 0
        try:
            while left:
                part = left.pop()
                if part in (b"", b"."):
                    continue
                if part == b"..":
                    if len(folders) == 1:
                        return None
                    os.close(folders.pop())
                    continue
                status = os.stat(part, dir_fd=folders[-1], follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    links += 1
                    target = os.readlink(part, dir_fd=folders[-1])
                    if target.startswith(b"/"):
                        root = next((root for root in roots if _is_below(target, root)), None)
                        if root is None:
                            return None
                        target = target[len(root) :]
                        while len(folders) > 1:
                            os.close(folders.pop())
                    left += reversed(target.split(b"/"))
                    if links > MAX_LINKS or len(left) + len(folders) > 2 * MAX_PARTS:
                        return None
                elif not _is_plain(status) or (left and not stat.S_ISDIR(status.st_mode)):
                    return None
                else:
                    folders.append(os.open(part, self._flags, dir_fd=folders[-1]))
            return os.dup(self._fd) if len(folders) == 1 else folders.pop()
        finally:
            for fd in folders[1:]:
                os.close(fd)


def _is_plain(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)


def _is_below(path: bytes, root: bytes) -> bool:
    return path == root or path.startswith(root.rstrip(b"/") + b"/")
