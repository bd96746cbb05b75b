"""Random bytes that nobody can guess: the kernel's."""

from __future__ import annotations

import os

from ..errors import ArgumentError, ArgumentTypeError


def secure_rng_init() -> None:
    """Make sure that the kernel's generator is ready; it waits for it early in a boot.

    Source: evutil_secure_rng_init.
    """
    os.urandom(1)


def secure_rng_get_bytes(size: int) -> bytes:
    """Return `size` random bytes.  Raises ArgumentError when negative.

    Source: evutil_secure_rng_get_bytes.
    """
    if size < 0:
        raise ArgumentError(f"a size is 0 or more: {size!r}")
    return os.urandom(size)


def secure_rng_add_bytes(data: bytes | bytearray | memoryview) -> None:
    """Check `data` and forget it: the kernel's generator, unlike libevent's, needs no more.

    Raises ArgumentTypeError for anything but bytes.  Source: evutil_secure_rng_add_bytes.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ArgumentTypeError(f"bytes are wanted, not {type(data).__name__}")
