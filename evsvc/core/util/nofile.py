"""The limit of open files, which is the limit of connections."""

from __future__ import annotations

import errno
import sys

from ..errors import ArgumentError, SocketError

if sys.platform != "win32":
    import resource


def raise_nofile_limit(wanted: int) -> int:
    """Raise the limit of open files to `wanted`, or as far as the hard limit lets it.

    Returns the limit now in force; it is never lowered.  Windows has no such limit, and `wanted`
    is returned.  Raises ArgumentError unless `wanted` is positive, SocketError when the system
    refuses below its own hard limit.
    """
    if wanted < 1:
        raise ArgumentError(f"a limit of open files is 1 or more: {wanted!r}")
    if sys.platform == "win32":
        return wanted
    unlimited = resource.RLIM_INFINITY
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == unlimited:
        return wanted
    target = wanted if hard == unlimited else min(wanted, hard)
    if target <= soft:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    except (OSError, ValueError) as exc:  # ValueError: what setrlimit(2) calls EINVAL
        code = exc.errno if isinstance(exc, OSError) else errno.EINVAL
        raise SocketError(code, f"cannot have {target} files open: {exc}") from exc
    return target
