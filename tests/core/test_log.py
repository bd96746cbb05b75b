"""Logging libevent's way: callbacks for records and for fatal errors, over `logging`."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator

import pytest

from evsvc.core import (
    EVENT_DBG_ALL,
    EVENT_DBG_NONE,
    EVENT_LOG_DEBUG,
    EVENT_LOG_ERR,
    EVENT_LOG_MSG,
    EVENT_LOG_WARN,
    ArgumentError,
    ArgumentTypeError,
    Error,
    EventBase,
    FatalError,
    LogSeverity,
    enable_debug_logging,
    set_fatal_callback,
    set_log_callback,
)
from evsvc.core.log import MAX_TEXT_BYTES, fatal

Told = list[tuple[LogSeverity, str]]

ROOM = logging.getLogger("evsvc.core")
TOP = logging.getLogger("evsvc")


@pytest.fixture
def debug_logging() -> Iterator[None]:
    enable_debug_logging(EVENT_DBG_ALL)
    yield
    enable_debug_logging(EVENT_DBG_NONE)


def test_debug_logging_tells_of_add_and_delete(
    debug_logging: None, caplog: pytest.LogCaptureFixture
) -> None:
    with EventBase() as base:
        event = base.timer(print)
        event.add(5)
        event.delete()
        told = [each.getMessage() for each in caplog.records if each.name == ROOM.name]
        assert [text.partition(":")[0] for text in told][-2:] == ["event_add", "event_del"]
        assert "timeout 5" in told[-2]
        enable_debug_logging(EVENT_DBG_NONE)
        caplog.clear()
        event.add(5)
        assert not caplog.records


def our_handlers() -> list[logging.Handler]:
    """Return the handlers of the logger but for those of pytest, which come and go."""
    return [each for each in TOP.handlers if type(each).__module__.startswith("evsvc.")]


def logger_state() -> tuple[int, bool, list[logging.Handler]]:
    return TOP.level, TOP.propagate, our_handlers()


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Take all callbacks back after the test, and see that the logger is as it was."""
    before = logger_state()
    yield
    set_log_callback(None)
    set_fatal_callback(None)
    enable_debug_logging(EVENT_DBG_NONE)
    assert logger_state() == before


@pytest.fixture
def root_texts() -> Iterator[list[str]]:
    """Return the list of what a handler that the program gave the root logger gets."""
    texts: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    yield texts
    logging.getLogger().removeHandler(handler)


@pytest.fixture
def told() -> Told:
    """Return the list that a log callback writes to."""
    records: Told = []
    set_log_callback(lambda severity, text: records.append((severity, text)))
    return records


def test_the_severities_are_libevents() -> None:
    assert [int(severity) for severity in LogSeverity] == [0, 1, 2, 3]
    assert list(LogSeverity) == [EVENT_LOG_DEBUG, EVENT_LOG_MSG, EVENT_LOG_WARN, EVENT_LOG_ERR]


def test_the_callback_gets_severity_and_formatted_text(told: Told) -> None:
    """warnx/msgx produce WARN/MSG with exact formatted text."""
    ROOM.warning("Far too many %s (%d)", "wombats", 99)
    ROOM.info("Connecting lime to coconut")
    ROOM.error("gone")
    ROOM.critical("gone for good")
    assert told == [
        (EVENT_LOG_WARN, "Far too many wombats (99)"),
        (EVENT_LOG_MSG, "Connecting lime to coconut"),
        (EVENT_LOG_ERR, "gone"),
        (EVENT_LOG_ERR, "gone for good"),
    ]


def test_the_callback_gets_the_records_of_all_rooms(told: Told) -> None:
    for room in ("core", "http", "http.access", "dns", "rpc"):
        logging.getLogger(f"evsvc.{room}").warning("%s", room)
    assert [text for _, text in told] == ["core", "http", "http.access", "dns", "rpc"]


def test_an_errno_appends_the_systems_text(told: Told) -> None:
    """warn with errno ENOENT appends the system text; socket errors do as well."""
    ROOM.warning("Couldn't open %s", "/bad/file", exc_info=OSError(errno.ENOENT, "in words"))
    refused = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    ROOM.error("connect", exc_info=refused)
    assert told == [
        (EVENT_LOG_WARN, "Couldn't open /bad/file: in words"),
        (EVENT_LOG_ERR, f"connect: {os.strerror(errno.ECONNREFUSED)}"),
    ]


def test_another_exception_appends_what_it_is(told: Told) -> None:
    ROOM.error("callback", exc_info=ValueError("seven"))
    assert told == [(EVENT_LOG_ERR, "callback: ValueError: seven")]


@pytest.mark.parametrize("size", [MAX_TEXT_BYTES, MAX_TEXT_BYTES + 1])
def test_the_text_is_limited(told: Told, size: int) -> None:
    """Text limited to 1024 bytes: at the limit and one beyond."""
    ROOM.warning("x" * size)
    assert told == [(EVENT_LOG_WARN, "x" * MAX_TEXT_BYTES)]


def test_the_limit_does_not_cut_a_character_in_two(told: Told) -> None:
    ROOM.warning("x" + "é" * MAX_TEXT_BYTES)
    assert told[0][1] == "x" + "é" * ((MAX_TEXT_BYTES - 1) // 2)


def test_debug_is_suppressed_with_mask_none(told: Told) -> None:
    """Debug messages are suppressed with mask NONE."""
    ROOM.debug("before")
    enable_debug_logging(EVENT_DBG_ALL)
    ROOM.debug("between")
    enable_debug_logging(EVENT_DBG_NONE)
    ROOM.debug("after")
    assert told == [(EVENT_LOG_DEBUG, "between")]


def test_debug_is_suppressed_whatever_the_level_of_a_room(told: Told) -> None:
    dns = logging.getLogger("evsvc.dns")
    dns.setLevel(logging.DEBUG)
    try:
        dns.debug("query")
    finally:
        dns.setLevel(logging.NOTSET)
    assert told == []


def test_debug_goes_to_the_handlers_of_the_program(root_texts: list[str]) -> None:
    enable_debug_logging(EVENT_DBG_ALL)
    ROOM.debug("between")
    enable_debug_logging(EVENT_DBG_NONE)
    ROOM.debug("after")
    assert root_texts == ["between"]


@pytest.mark.parametrize("which", [1, -1, 0x7FFFFFFF])
def test_another_debug_mask_is_refused(which: int) -> None:
    with pytest.raises(ArgumentError, match=str(which)):
        enable_debug_logging(which)


def test_a_level_of_the_program_holds() -> None:
    TOP.setLevel(logging.ERROR)
    try:
        told: Told = []
        set_log_callback(lambda severity, text: told.append((severity, text)))
        ROOM.warning("not so bad")
        ROOM.error("bad")
        set_log_callback(None)
        assert TOP.level == logging.ERROR
    finally:
        TOP.setLevel(logging.NOTSET)
    assert told == [(EVENT_LOG_ERR, "bad")]


def test_the_callback_takes_the_place_of_other_logging(told: Told, root_texts: list[str]) -> None:
    """event_set_log_callback replaces the sink; none restores the default."""
    ROOM.warning("to the callback")
    assert root_texts == []
    set_log_callback(None)
    ROOM.warning("to logging")
    assert root_texts == ["to logging"]
    assert [text for _, text in told] == ["to the callback"]


def test_a_second_callback_replaces_the_first(told: Told) -> None:
    second: list[str] = []
    set_log_callback(lambda severity, text: second.append(text))
    ROOM.warning("once")
    assert told == []
    assert second == ["once"]


def test_the_callback_is_not_re_entered() -> None:
    """The callback must not re-enter the library: what it makes evsvc log is dropped."""
    told: list[str] = []

    def log(severity: LogSeverity, text: str) -> None:
        told.append(text)
        ROOM.error("from the callback")

    set_log_callback(log)
    ROOM.warning("first")
    ROOM.warning("second")
    assert told == ["first", "second"]


def test_the_callback_may_take_itself_back() -> None:
    told: list[str] = []

    def log(severity: LogSeverity, text: str) -> None:
        told.append(text)
        set_log_callback(None)

    set_log_callback(log)
    ROOM.warning("first")
    ROOM.info("second")
    assert told == ["first"]


def test_what_the_callback_raises_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []

    def log(severity: LogSeverity, text: str) -> None:
        told.append(text)
        raise ValueError("broken callback")

    set_log_callback(log)
    ROOM.warning("first")
    ROOM.warning("second")
    assert told == ["first", "second"]
    assert "broken callback" in capsys.readouterr().err


def test_a_fatal_error_is_logged_then_told_then_raised(told: Told) -> None:
    """Fatal helpers log ERR first, then call the fatal callback with the code, then end it all."""
    codes: list[int] = []

    def on_fatal(code: int) -> None:
        assert told == [(EVENT_LOG_ERR, "out of everything")]
        codes.append(code)

    set_fatal_callback(on_fatal)
    with pytest.raises(FatalError, match="out of everything") as caught:
        fatal(35, "out of everything")
    assert codes == [35]
    assert caught.value.code == 35
    assert isinstance(caught.value, Error)


def test_a_fatal_error_has_its_cause(told: Told) -> None:
    cause = OSError(errno.ENOENT, "No such thing")
    with pytest.raises(FatalError) as caught:
        fatal(1, "cannot go on", cause)
    assert caught.value.__cause__ is cause
    assert told == [(EVENT_LOG_ERR, "cannot go on: No such thing")]


def test_the_fatal_callback_may_end_the_program_itself() -> None:
    def on_fatal(code: int) -> None:
        raise SystemExit(code)

    set_fatal_callback(on_fatal)
    with pytest.raises(SystemExit) as caught:
        fatal(17, "over")
    assert caught.value.code == 17


def test_without_fatal_callback_the_error_is_raised_all_the_same() -> None:
    set_fatal_callback(lambda code: pytest.fail("it was taken back"))
    set_fatal_callback(None)
    with pytest.raises(FatalError):
        fatal(1, "over")


def test_a_fatal_callback_leaves_logging_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that sets up no logging sees warnings on stderr, and once."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    set_fatal_callback(lambda code: None)
    ROOM.warning("seen")
    ROOM.info("not seen")
    assert capsys.readouterr().err == "seen\n"


def test_a_fatal_callback_adds_nothing_to_the_programs_handlers(
    root_texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    set_fatal_callback(lambda code: None)
    ROOM.warning("seen")
    assert root_texts == ["seen"]
    assert capsys.readouterr().err == ""


def test_what_cannot_be_called_is_refused() -> None:
    for setter in (set_log_callback, set_fatal_callback):
        with pytest.raises(ArgumentTypeError, match="'seven'"):
            setter("seven")  # type: ignore[operator]


def test_at_most_one_handler_is_installed() -> None:
    set_log_callback(lambda severity, text: None)
    set_fatal_callback(lambda code: None)
    enable_debug_logging(EVENT_DBG_ALL)
    assert len(our_handlers()) == 1
