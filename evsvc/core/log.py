"""Logging libevent's way, over the standard `logging` package.

All of evsvc logs to the loggers `evsvc.*`.  A program either sets those up as it does any other,
or gives one callback here that gets severity and text.  The callbacks are kept by a handler of the
logger `evsvc`, which is there as long as something is set.

While there is a log callback, records go to it instead of up to the root logger, from
EVENT_LOG_MSG on; a level that the program had set for the logger `evsvc` before holds, too.
"""

from __future__ import annotations

import contextlib
import enum
import logging
from collections.abc import Callable, Iterator
from typing import NoReturn

from .errors import ArgumentError, ArgumentTypeError, Error

MAX_TEXT_BYTES = 1024
"""Most bytes of UTF-8 that a log callback gets; the rest is cut off."""

EVENT_DBG_ALL = 0xFFFFFFFF
EVENT_DBG_NONE = 0


class LogSeverity(enum.IntEnum):
    """How grave a record is: logging's DEBUG, INFO, WARNING, and ERROR and above."""

    EVENT_LOG_DEBUG = 0
    EVENT_LOG_MSG = 1
    EVENT_LOG_WARN = 2
    EVENT_LOG_ERR = 3


EVENT_LOG_DEBUG = LogSeverity.EVENT_LOG_DEBUG
EVENT_LOG_MSG = LogSeverity.EVENT_LOG_MSG
EVENT_LOG_WARN = LogSeverity.EVENT_LOG_WARN
EVENT_LOG_ERR = LogSeverity.EVENT_LOG_ERR

LogCallback = Callable[[LogSeverity, str], object]
"""Called as `cb(severity, text)`; the text has no line end."""
FatalCallback = Callable[[int], object]
"""Called as `cb(code)`, when nothing can go on."""


class FatalError(Error, RuntimeError):
    """Nothing can go on.  Raised where libevent exits with `code`, once the callback was called."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _CallbackHandler(logging.Handler):
    """Keeps the callbacks, and what the logger was like before."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__(logging.INFO)
        self.log_cb: LogCallback | None = None
        self.fatal_cb: FatalCallback | None = None
        self.debug = False
        self._logger = logger
        self._own_level = logger.level
        self._own_propagate = logger.propagate
        self._calling = False

    def apply(self) -> None:
        """Have the logger fit what is set; without anything set, as it was, and without us."""
        logger = self._logger
        logger.propagate = self._own_propagate and self.log_cb is None
        if self.debug:
            logger.setLevel(logging.DEBUG)
        elif self.log_cb is not None and self._own_level == logging.NOTSET:
            logger.setLevel(logging.INFO)
        else:
            logger.setLevel(self._own_level)
        self.setLevel(logging.DEBUG if self.debug else logging.INFO)
        if self.log_cb is None and self.fatal_cb is None and not self.debug:
            logger.removeHandler(self)
            self.close()
        else:
            logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Give a record to the callback, unless the callback itself has logged it."""
        callback = self.log_cb
        if callback is None:
            self._stand_in_for_none(record)
            return
        if self._calling:  # by this thread: `handle` holds our lock
            return
        self._calling = True
        try:
            callback(_severity_of(record.levelno), _text_of(record))
        except Exception:
            self.handleError(record)
        finally:
            self._calling = False

    def _stand_in_for_none(self, record: logging.LogRecord) -> None:
        """Do what logging does for a logger without handlers, which our presence hides."""
        others = [each for each in self._logger.handlers if each is not self]
        others += logging.getLogger().handlers if self._logger.propagate else []
        last = logging.lastResort
        if not others and last is not None and record.levelno >= last.level:
            last.handle(record)


def _severity_of(level: int) -> LogSeverity:
    if level >= logging.ERROR:
        return EVENT_LOG_ERR
    if level >= logging.WARNING:
        return EVENT_LOG_WARN
    return EVENT_LOG_MSG if level >= logging.INFO else EVENT_LOG_DEBUG


def _text_of(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        text = f"{text}: {_reason_of(record.exc_info[1])}"
    data = text.encode(errors="backslashreplace")
    return text if len(data) <= MAX_TEXT_BYTES else data[:MAX_TEXT_BYTES].decode(errors="ignore")


def _reason_of(exc: BaseException) -> str:
    """Return what libevent appends for an errno; other exceptions say what they are."""
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return f"{type(exc).__name__}: {exc}"


def _installed(logger: logging.Logger) -> _CallbackHandler | None:
    return next((each for each in logger.handlers if isinstance(each, _CallbackHandler)), None)


@contextlib.contextmanager
def _handler() -> Iterator[_CallbackHandler]:
    """Give the handler to be changed, and then have the logger fit it."""
    logger = logging.getLogger("evsvc")
    handler = _installed(logger) or _CallbackHandler(logger)
    yield handler
    handler.apply()


def set_log_callback(cb: LogCallback | None) -> None:
    """Have `cb(severity, text)` get what evsvc logs; None restores the way it was before.

    severity: EVENT_LOG_*.  text: at most MAX_TEXT_BYTES; the text of an exception that goes with
    the record is appended.  `cb` is called by whatever thread logs, one at a time; what it makes
    evsvc log is dropped, and what it raises goes to stderr, as with any handler.  Raises
    ArgumentTypeError for what cannot be called.  Source: event_set_log_callback.
    """
    _require_callable(cb)
    with _handler() as handler:
        handler.log_cb = cb


def set_fatal_callback(cb: FatalCallback | None) -> None:
    """Have `cb(code)` called before a FatalError is raised; None: nothing is called.

    Nothing that evsvc does is fatal so far: where libevent would exit, for a misuse that debug mode
    finds, an error is raised at the call.
    A callback that raises, SystemExit say, has its own exception go on instead.  Raises
    ArgumentTypeError for what cannot be called.  Source: event_set_fatal_callback.
    """
    _require_callable(cb)
    with _handler() as handler:
        handler.fatal_cb = cb


class _Topics:
    """Whether what is too frequent to ask the logger about each time is logged at all."""

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on = False


debug_topics = _Topics()


def enable_debug_logging(which: int) -> None:
    """Log at DEBUG, too, with EVENT_DBG_ALL; not with EVENT_DBG_NONE, the default.

    Then `evsvc.core` tells of each `Event.add` and `Event.delete`.  Raises ArgumentError for
    anything else.  Source: event_enable_debug_logging.
    """
    if which not in (EVENT_DBG_ALL, EVENT_DBG_NONE):
        raise ArgumentError(f"either EVENT_DBG_ALL or EVENT_DBG_NONE: {which!r}")
    with _handler() as handler:
        handler.debug = debug_topics.on = which == EVENT_DBG_ALL


def fatal(code: int, text: str, cause: BaseException | None = None) -> NoReturn:
    """Log at ERROR, call the fatal callback with `code`, and raise FatalError (event_err).

    cause: the exception behind it, whose text is appended in the log.
    """
    logger = logging.getLogger("evsvc")
    logger.error("%s", text, exc_info=cause)
    handler = _installed(logger)
    if handler is not None and handler.fatal_cb is not None:
        handler.fatal_cb(code)
    raise FatalError(code, text) from cause


def _require_callable(cb: object) -> None:
    if cb is not None and not callable(cb):
        raise ArgumentTypeError(f"the callback cannot be called: {cb!r}")
