"""resolv.conf: which nameservers to ask, which suffixes to try, which options to set.

Parsing is of text; `read_file` is the one place where a file of bounded size is read, for the
hosts file as well.  Source: resolv.conf(5), evdns_base_resolv_conf_parse.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from ...core import ArgumentError
from ...core.resolver import SocketAddress
from ..errors import DnsFileError
from ..options import parse_nameserver


@dataclass(frozen=True, slots=True)
class SystemConfig:
    """What a resolv.conf says.

    nameservers: in the order of the file, each once;  search: the suffixes of the last `search`
    or `domain` line, None when there is none;  options: (name, value) pairs, value None when
    there is no colon;  ignored: lines that make no sense, for the log.
    """

    nameservers: tuple[SocketAddress, ...] = ()
    search: tuple[str, ...] | None = None
    options: tuple[tuple[str, str | None], ...] = ()
    ignored: tuple[str, ...] = ()


def parse_resolv_conf(text: str) -> SystemConfig:
    """Return what `text` says; lines with unknown first words, comments too, count for nothing."""
    nameservers: dict[SocketAddress, None] = {}
    search: tuple[str, ...] | None = None
    options: list[tuple[str, str | None]] = []
    ignored: list[str] = []
    for line in text.splitlines():
        keyword, *values = line.split() or [""]
        if keyword == "nameserver" and values:
            try:
                nameservers[parse_nameserver(values[0])] = None
            except ArgumentError:
                ignored.append(line)
        elif keyword == "domain" and values:
            search = (values[0],)
        elif keyword == "search":
            search = tuple(values)
        elif keyword == "options":
            options += [_split_option(word) for word in values]
    return SystemConfig(tuple(nameservers), search, tuple(options), tuple(ignored))


def _split_option(word: str) -> tuple[str, str | None]:
    name, colon, value = word.partition(":")
    return name, value if colon else None


def domain_of_host(hostname: str) -> tuple[str, ...]:
    """Return the search list that a host name implies: what follows its first dot."""
    domain = hostname.partition(".")[2]
    return (domain,) if domain else ()


def read_file(filename: str, limit_bytes: int) -> str:
    """Return a file's text, bytes that are no UTF-8 replaced.

    Raises DnsFileError when it cannot be read, or (errno EFBIG) when it is longer than the limit.
    """
    try:
        with open(filename, "rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as exc:
        raise DnsFileError(exc.errno, exc.strerror, filename) from exc
    if len(data) > limit_bytes:
        raise DnsFileError(errno.EFBIG, f"longer than {limit_bytes} bytes", filename)
    return data.decode("utf-8", "replace")


class FollowedFiles:
    """Files that a resolver goes by, and how they were when they were read."""

    __slots__ = ("_stamps",)

    def __init__(self) -> None:
        self._stamps: dict[str, tuple[int, ...]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._stamps))

    def follow(self, filename: str) -> None:
        """Note how a file is now; call it before the file is read, so that no change is lost."""
        self._stamps[filename] = _stamp(filename)

    def changed(self) -> list[str]:
        """Return which files have changed since they were noted, and note them as they are now.

        What a file said that is no more there stays in force.
        """
        found = [name for name, stamp in self._stamps.items() if _stamp(name) not in ((), stamp)]
        for name in found:
            self.follow(name)
        return found


def _stamp(filename: str) -> tuple[int, ...]:
    """What changes with a file's contents; empty when there is no file."""
    try:
        status = os.stat(filename)
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
