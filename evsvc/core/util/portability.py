"""What C programs need for portability's sake: text, time, randomness, the limit of open files.

No locale changes the text, the clock can be kept from going back, and the random bytes are the
kernel's, which nobody can guess.
"""

from __future__ import annotations

import calendar
import enum
import errno
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from types import MappingProxyType
from typing import Final

from ..checks import require_callable, whole_number
from ..errors import ArgumentError, ArgumentTypeError, SocketError
from ..reactor.clock import RatchetClock

if sys.platform != "win32":
    import resource

_SIGN: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?)").match
# With no digit behind the x, the number is the 0.
_HEX_PREFIX: Final = re.compile(r"0[xX](?=[0-9a-fA-F])").match
_DIGITS: Final[Mapping[int, re.Pattern[str]]] = MappingProxyType(
    {8: re.compile(r"[0-7]+"), 10: re.compile(r"[0-9]+"), 16: re.compile(r"[0-9a-fA-F]+")}
)
_MAX_DIGITS: Final = 22  # of 64 bits in base 8


def ascii_strcasecmp(one: str | bytes, other: str | bytes) -> int:
    """Return -1, 0 or 1 as `one` sorts before, with or behind `other`, ASCII case aside.

    Other letters are compared as they are; a text sorts before a longer one that begins with it.
    Raises ArgumentTypeError for what is neither text nor bytes.  Source: evutil_ascii_strcasecmp.
    """
    first, second = _folded(one), _folded(other)
    return (first > second) - (first < second)


def ascii_strncasecmp(one: str | bytes, other: str | bytes, size: int) -> int:
    """Compare the first `size` characters as `ascii_strcasecmp` does.

    Raises ArgumentError for a negative size, ArgumentTypeError for one that is no whole number.
    Source: evutil_ascii_strncasecmp.
    """
    _require_size(size)
    return ascii_strcasecmp(_text(one)[:size], _text(other)[:size])


def _folded(text: str | bytes) -> bytes:
    # UTF-8 sorts as its characters do, and lower() of bytes knows ASCII alone.
    text = _text(text)
    return (text.encode(errors="surrogatepass") if isinstance(text, str) else bytes(text)).lower()


def _text(text: str | bytes) -> str | bytes:
    if not isinstance(text, (str, bytes, bytearray)):
        raise ArgumentTypeError(f"a text is wanted, not {type(text).__name__}")
    return text


def _characters(text: str) -> str:
    if not isinstance(text, str):
        raise ArgumentTypeError(f"a text of characters is wanted, not {type(text).__name__}")
    return text


def _require_size(size: object) -> None:
    if whole_number(size, "a size") < 0:
        raise ArgumentError(f"a size is 0 or more: {size!r}")


def rtrim_lws(text: str) -> str:
    """Return `text` without the spaces and tabs at its end (evutil_rtrim_lws_).

    Raises ArgumentTypeError for what is no text.
    """
    return _characters(text).rstrip(" \t")


def strtoll(text: str, base: int = 10) -> tuple[int, int]:
    """Return the number that `text` begins with, and the position behind it (evutil_strtoll).

    Blanks before it are skipped, a sign may stand in front.  base: 8, 10 or 16; 0 goes by the
    prefix, 0x or 0.  Without a number the answer is (0, 0).  Raises ArgumentError for another
    base, and for a number that 64 bits do not hold; ArgumentTypeError for what is no text.
    """
    if whole_number(base, "a base") not in (0, 8, 10, 16):
        raise ArgumentError(f"the base is 0, 8, 10 or 16: {base!r}")
    sign = _SIGN(_characters(text))
    assert sign is not None, "it matches nothing, too"
    at = sign.end()
    if base in (0, 16) and _HEX_PREFIX(text, at):
        base = 16
        at += len("0x")
    elif base == 0:
        base = 8 if text.startswith("0", at) else 10
    found = _DIGITS[base].match(text, at)
    if found is None:
        return 0, 0
    significant = found[0].lstrip("0") or "0"
    number = int(significant, base) if len(significant) <= _MAX_DIGITS else 2**64
    if sign[1] == "-":
        number = -number
    if not -(2**63) <= number < 2**63:
        raise ArgumentError(f"beyond 64 bits: {found[0][:80]!r}")
    return number, found.end()


class MonotonicFlag(enum.IntFlag):
    """How a `MonotonicTimer` takes its time.

    PRECISE:  as precisely as the system can; this is so without the flag, too.
    FALLBACK: from wall time, kept from going back.
    """

    EV_MONOT_PRECISE = 1
    EV_MONOT_FALLBACK = 2


EV_MONOT_PRECISE = MonotonicFlag.EV_MONOT_PRECISE
EV_MONOT_FALLBACK = MonotonicFlag.EV_MONOT_FALLBACK

_MONOTONIC_FLAGS = int(EV_MONOT_PRECISE | EV_MONOT_FALLBACK)


class MonotonicTimer:
    """A clock that never goes back (struct evutil_monotonic_timer).

    flags: EV_MONOT_PRECISE, EV_MONOT_FALLBACK.  source: seconds from elsewhere, which may go
    back: they are kept from it.  Raises ArgumentError for unknown flags, ArgumentTypeError for
    flags that are no int, and for a source that cannot be called.
    Source: evutil_configure_monotonic_time.
    """

    __slots__ = ("_gettime",)

    def __init__(self, flags: int = 0, *, source: Callable[[], float] | None = None) -> None:
        flags = int(whole_number(flags, "the flags of a monotonic timer"))
        if flags & ~_MONOTONIC_FLAGS:
            raise ArgumentError(f"unknown flags of a monotonic timer: {flags:#x}")
        if source is not None:
            require_callable(source)
        self._gettime: Callable[[], float] = time.monotonic
        if source is not None or flags & EV_MONOT_FALLBACK:
            self._gettime = RatchetClock(source or time.time).monotonic

    def gettime(self) -> float:
        """Return seconds that mean something only beside each other (evutil_gettime_monotonic).

        Where the source goes back, time stands still for this reading, and then goes on from
        there as the source does.
        """
        return self._gettime()


def gettimeofday() -> float:
    """Return wall time in seconds since 1970 (evutil_gettimeofday)."""
    return time.time()


def date_rfc1123(when: float | time.struct_time | None = None) -> str:
    """Return a time as "Thu, 01 Jan 1970 00:00:00 GMT", in English whatever the locale.

    when: seconds since 1970, or a broken-down time in UTC; None is now.  Raises ArgumentError for
    a time outside the years 1 to 9999, ArgumentTypeError for what is no time.
    Source: evutil_date_rfc1123, RFC 9110 section 5.6.7.
    """
    if when is not None and not isinstance(when, (int, float, time.struct_time)):
        raise ArgumentTypeError(f"a time is seconds or a struct_time, not {type(when).__name__}")
    try:
        seconds = calendar.timegm(when) if isinstance(when, time.struct_time) else when
        return formatdate(seconds, usegmt=True)
    except (ValueError, OverflowError, OSError) as exc:
        raise ArgumentError(f"a time of the years 1 to 9999 is wanted: {when!r}") from exc


def secure_rng_init() -> None:
    """Make sure that the kernel's generator is ready; it waits for it early in a boot.

    Source: evutil_secure_rng_init.
    """
    os.urandom(1)


def secure_rng_get_bytes(size: int) -> bytes:
    """Return `size` random bytes (evutil_secure_rng_get_bytes).

    Raises ArgumentError when it is negative or more than memory can have, ArgumentTypeError when it
    is no whole number.
    """
    _require_size(size)
    if size > sys.maxsize:
        raise ArgumentError(f"a size is {sys.maxsize} at most: {size!r}")
    return os.urandom(size)


def secure_rng_add_bytes(data: bytes | bytearray | memoryview) -> None:
    """Check `data` and forget it: the kernel's generator, unlike libevent's, needs no more.

    Raises ArgumentTypeError for anything but bytes.  Source: evutil_secure_rng_add_bytes.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ArgumentTypeError(f"bytes are wanted, not {type(data).__name__}")


def raise_nofile_limit(wanted: int) -> int:
    """Raise the limit of open files to `wanted`, or as far as the hard limit lets it.

    Returns the limit now in force; it is never lowered.  Windows has no such limit, and `wanted`
    is returned.  Raises ArgumentError unless `wanted` is positive, ArgumentTypeError unless it is a
    whole number, SocketError when the system refuses below its own hard limit.
    """
    if whole_number(wanted, "a limit of open files") < 1:
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
    except (OSError, ValueError, OverflowError) as exc:  # the others are setrlimit(2)'s EINVAL
        code = exc.errno if isinstance(exc, OSError) else errno.EINVAL
        raise SocketError(code, f"cannot have {target} files open: {exc}") from exc
    return target
