"""The access log: a line in the log `evsvc.http.access` for each exchange that is over.

What a client sent stands in a line in such a way that it cannot end it, nor a quoted part of it:
quotes, backslashes, control characters and all beyond ASCII are escaped, as Apache does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import localtime, strftime
from typing import TYPE_CHECKING, Final

from ....core.errors import ArgumentError

if TYPE_CHECKING:
    from ..request import ServerRequest
    from .observers import FinishedExchange

logger = logging.getLogger("evsvc.http.access")

FORMATS: Final = ("plain", "common", "combined", "json")

NO_STATUS: Final = 499
"""What stands for the status where the client went before a reply was begun, as nginx has it."""

_ESCAPES: Final = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0x100))},
    ord('"'): '\\"',
    ord("\\"): "\\\\",
}
# strftime's %b follows the locale.
_MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLogOptions:
    """How the access log is written.  Raises ArgumentError for an unknown format or a bad path.

    format:   "plain" is address, request line, status and bytes; "common" and "combined" are
              Apache's, in local time; "json" is one object a line, with all that is known.
    duration: whether the seconds that it took stand at the end of common and combined.
    muted:    paths whose exchanges are not logged, percent-encoded as they come; one that ends in
              "/" stands for all that begin with it.
    """

    format: str = "plain"
    duration: bool = False
    muted: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ArgumentError(f"a format is one of {', '.join(FORMATS)}: {self.format!r}")
        if isinstance(self.muted, str):
            raise ArgumentError(f"muted holds paths, and is not one: {self.muted!r}")
        for path in self.muted:
            if not path.startswith("/"):
                raise ArgumentError(f"a path begins with '/': {path!r}")


class AccessLog:
    """An observer that writes the log."""

    __slots__ = ("_duration", "_muted", "_muted_prefixes", "_second", "_when", "_write")

    def __init__(self, options: AccessLogOptions) -> None:
        self._muted = frozenset(options.muted)
        self._muted_prefixes = tuple(path for path in options.muted if path.endswith("/"))
        self._duration = options.duration
        self._second, self._when = -1, ""  # which is formatted once a second
        self._write = {
            "plain": _plain,
            "common": self._common,
            "combined": self._combined,
            "json": _json,
        }[options.format]

    @property
    def is_on(self) -> bool:
        """Whether somebody reads the log."""
        return logger.isEnabledFor(logging.INFO)

    def __call__(self, exchange: FinishedExchange) -> None:
        """Log an exchange, unless its path is muted.

        The record has it as its attribute `exchange`, for handlers of the program's own.
        """
        if not self.is_on:
            return
        request = exchange.request
        if self._muted and request is not None:
            path = request.encoded_path
            if path in self._muted or path.startswith(self._muted_prefixes):
                return
        # By hand: info() looks for its caller's line, which costs as much as all the rest.
        make = logging.getLogRecordFactory()
        record = make(
            logger.name, logging.INFO, __file__, 0, self._write(exchange), None, None, "__call__"
        )
        record.__dict__["exchange"] = exchange
        logger.handle(record)

    def _common(self, exchange: FinishedExchange) -> str:
        line = self._common_line(exchange)
        return f"{line} {exchange.duration_s:.6f}" if self._duration else line

    def _combined(self, exchange: FinishedExchange) -> str:
        referer, agent = (_field(exchange.request, name) for name in ("Referer", "User-Agent"))
        line = f'{self._common_line(exchange)} "{referer}" "{agent}"'
        return f"{line} {exchange.duration_s:.6f}" if self._duration else line

    def _common_line(self, exchange: FinishedExchange) -> str:
        second = int(exchange.started_at)
        if second != self._second:
            moment = localtime(second)
            month = _MONTHS[moment.tm_mon - 1]
            self._second, self._when = second, strftime(f"%d/{month}/%Y:%H:%M:%S %z", moment)
        return (
            f"{exchange.client_address or '-'} - - [{self._when}] "
            f'"{_request_line(exchange.request)}" '
            f"{exchange.status or NO_STATUS} {exchange.sent_bytes or '-'}"
        )


def escape(text: str) -> str:
    """Return a text that has no quote, backslash, control or non-ASCII character by itself."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return text.translate(_ESCAPES)


def _plain(exchange: FinishedExchange) -> str:
    status = exchange.status or NO_STATUS
    address = exchange.client_address or "-"
    return f'{address} "{_request_line(exchange.request)}" {status} {exchange.sent_bytes}'


def _json(exchange: FinishedExchange) -> str:
    request = exchange.request
    members: dict[str, object] = {
        "time": datetime.fromtimestamp(exchange.started_at, UTC).isoformat(timespec="milliseconds"),
        "address": exchange.client_address,
        "peer": exchange.peer[0],
        "port": exchange.peer[1],
        "status": exchange.status or None,
        "sent_bytes": exchange.sent_bytes,
        "received_bytes": exchange.received_bytes,
        "duration_s": round(exchange.duration_s, 6),
        "ending": exchange.ending.value,
    }
    if request is not None:
        members |= {
            "method": request.method,
            "target": request.uri,
            "version": f"1.{request.minor}",
            "host": request.host,
            "referer": request.input_headers.find("Referer"),
            "user_agent": request.input_headers.find("User-Agent"),
        }
    return json.dumps(members)


def _request_line(request: ServerRequest | None) -> str:
    if request is None:
        return "-"
    return f"{escape(request.method)} {escape(request.uri)} HTTP/1.{request.minor}"


def _field(request: ServerRequest | None, name: str) -> str:
    value = None if request is None else request.input_headers.find(name)
    return "-" if value is None else escape(value)
