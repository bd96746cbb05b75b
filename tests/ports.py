"""Port numbers that are ours: no test hopes that a number is free, or stays so."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import pytest

# Somebody else has the number of a port that was just given to us: once in thousands.
ATTEMPTS = 20


class Bound(Protocol):
    """What has a port."""

    def close(self) -> object:
        """Give the port back."""


First = TypeVar("First", bound=Bound)
Second = TypeVar("Second")


@contextmanager
def held_port(host: str = "127.0.0.1") -> Iterator[int]:
    """Hold a port on which nobody listens, so that connecting to it is refused.

    Nobody else is given it, and who binds with SO_REUSEADDR can listen on it meanwhile.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((host, 0))
        yield holder.getsockname()[1]


def bind_both(
    first: Callable[[], First], second: Callable[[First], Second]
) -> tuple[First, Second]:
    """Bind two sockets to one number: the first to any port, the second, given it, to its own.

    Another process may have that number for the second one's protocol or family: then both begin
    again with another number.
    """
    for _ in range(ATTEMPTS):
        one = first()
        try:
            return one, second(one)
        except OSError as exc:
            one.close()
            if exc.errno != errno.EADDRINUSE:
                raise
    pytest.fail(f"{ATTEMPTS} ports in a row were in use by others, or one is always refused")
