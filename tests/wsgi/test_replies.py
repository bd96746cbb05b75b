"""What an application returns becomes a reply, as PEP 3333 has it; wsgiref looks on."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError, StateError
from evsvc.http import CompressionOptions
from evsvc.wsgi import ClientGone
from tests.hosted import PATIENCE_S, read_to_end
from tests.wsgi.gateway import Gateway

Serve = Callable[..., Gateway]
TEXT = [("Content-Type", "text/plain")]


class Closable:
    """An iterable that knows whether it was closed."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self.closed = threading.Event()
        self.given = 0

    def __iter__(self) -> Closable:
        return self

    def __next__(self) -> bytes:
        piece = next(self._pieces)
        self.given += 1
        return piece

    def close(self) -> None:
        assert not self.closed.is_set()
        self.closed.set()


def returning(result: Any, status: str = "200 OK", headers: Any = TEXT) -> Any:
    """An application that returns one thing."""

    def application(environ: Any, start_response: Any) -> Any:
        start_response(status, list(headers))
        return result

    return application


@pytest.mark.parametrize("is_validated", [True, False])
@pytest.mark.parametrize("pieces", [[b"hello"], [b""], [], [b"a", b"", b"bc"], (b"tuple",)])
def test_a_reply_that_is_there_has_its_length_or_is_chunked(
    serve: Serve, pieces: Any, is_validated: bool
) -> None:
    answer = serve(returning(pieces), is_validated=is_validated).ask()
    assert (answer.status, answer.body) == (200, b"".join(pieces))
    assert answer.fields["content-type"] == "text/plain"
    if not is_validated:  # wsgiref hides that it is a list
        assert answer.fields["content-length"] == str(len(answer.body))


def test_a_generator_is_sent_as_it_comes(serve: Serve) -> None:
    """The client has the first piece before the application makes the second."""
    seen = threading.Event()

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        yield b"first"
        assert seen.wait(PATIENCE_S)
        yield b""
        yield b"second"

    gateway = serve(application)
    sock = gateway.connect()
    sock.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    received = b""
    while b"first" not in received:
        received += sock.recv(65536)
    assert b"Transfer-Encoding: chunked" in received
    seen.set()
    assert (received + read_to_end(sock)).endswith(b"first\r\n6\r\nsecond\r\n0\r\n\r\n")


def test_a_client_of_http_1_0_gets_a_stream_up_to_the_end_of_the_connection(serve: Serve) -> None:
    gateway = serve(returning(iter([b"a", b"b"])))
    head, _, body = gateway.exchange(b"GET / HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    assert body == b"ab"
    assert b"chunked" not in head


def test_an_iterable_with_a_length_of_its_own_is_not_chunked(serve: Serve) -> None:
    answer = serve(returning(iter([b"ab", b"c"]), headers=[*TEXT, ("Content-Length", "3")])).ask()
    assert (answer.body, answer.fields["content-length"]) == (b"abc", "3")
    assert "transfer-encoding" not in answer.fields


def test_the_write_callable_sends_before_what_is_returned(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", TEXT)
        write(b"by write, ")
        write(b"")
        write(b"twice, ")
        return [b"by return"]

    assert serve(application).ask().body == b"by write, twice, by return"


def test_write_alone_may_fulfil_the_announced_length(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [*TEXT, ("Content-Length", "4")])(b"four")
        return []

    assert serve(application).ask().body == b"four"


def test_start_response_may_come_with_the_first_piece(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        start_response("201 Made So", [*TEXT, ("X-Own", "1"), ("Set-Cookie", "a=b")])
        yield b"late"

    answer = serve(application).ask()
    assert (answer.status, answer.reason, answer.body) == (201, "Made So", b"late")
    assert answer.fields["x-own"] == "1"


@pytest.mark.parametrize("code", ["204 No Content", "304 Not Modified"])
def test_a_reply_without_body_has_none_and_the_connection_lives_on(serve: Serve, code: str) -> None:
    gateway = serve(returning(iter([]), code, []))
    sock = gateway.connect()
    for _ in range(2):
        sock.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += sock.recv(65536)
        assert received.startswith(f"HTTP/1.1 {code}".encode())
        assert b"Content-Length" not in received
        assert b"chunked" not in received


def test_head_gets_the_head_and_asks_for_no_pieces(serve: Serve) -> None:
    pieces = Closable([b"body"])
    headers = [*TEXT, ("Content-Length", "4")]
    answer = serve(returning(pieces, headers=headers)).ask(method="HEAD")
    assert (answer.status, answer.body, answer.fields["content-length"]) == (200, b"", "4")
    assert pieces.closed.wait(PATIENCE_S)
    assert pieces.given == 0


@pytest.mark.parametrize("pieces", [[b"whole"], []])
def test_head_announces_a_length_only_where_it_is_known(serve: Serve, pieces: Any) -> None:
    answer = serve(returning(pieces), is_validated=False).ask(method="HEAD")
    assert answer.fields.get("content-length") == ("5" if pieces else None)


def test_head_where_the_head_comes_late(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        yield b"piece"
        raise AssertionError("nobody wants a second one")

    assert serve(application).ask(method="HEAD").status == 200


def test_close_is_called_when_all_is_sent(serve: Serve) -> None:
    pieces = Closable([b"a", b"b"])
    assert serve(returning(pieces)).ask().body == b"ab"
    assert pieces.closed.wait(PATIENCE_S)


def test_close_is_called_when_the_client_has_gone_and_nothing_more_is_asked_for(
    serve: Serve,
) -> None:
    def forever() -> Iterable[bytes]:
        while True:
            yield b"x" * 65536

    pieces = Closable(forever())
    gateway = serve(returning(pieces))
    sock = gateway.connect()
    sock.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert sock.recv(100)
    sock.close()
    assert pieces.closed.wait(PATIENCE_S)


def test_write_raises_when_the_client_has_gone(serve: Serve) -> None:
    raised: list[BaseException] = []
    over = threading.Event()

    def application(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", TEXT)
        try:
            while True:
                write(b"x" * 65536)
        except OSError as exc:
            raised.append(exc)
            over.set()
            raise

    gateway = serve(application)
    sock = gateway.connect()
    sock.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert sock.recv(100)
    sock.close()
    assert over.wait(PATIENCE_S)
    assert isinstance(raised[0], ClientGone)


def test_a_client_that_has_ended_its_side_still_gets_its_answer(serve: Serve) -> None:
    may_go_on = threading.Event()

    def application(environ: Any, start_response: Any) -> Any:
        assert may_go_on.wait(PATIENCE_S)
        start_response("200 OK", TEXT)
        yield b"still "
        yield b"here"

    gateway = serve(application)
    sock = gateway.connect()
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    sock.shutdown(1)
    gateway.in_loop(lambda: None)
    may_go_on.set()
    assert read_to_end(sock).endswith(b"still here")


def test_the_application_waits_for_a_client_that_does_not_read(serve: Serve) -> None:
    """What is made beyond what the client has taken is bounded by `max_output_bytes`."""
    size, most = 16384, 65536
    made = [0]
    at_bound = threading.Event()
    total = 400

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        for count in range(total):
            made[0] = count
            at_bound.set()
            yield b"x" * size

    gateway = serve(application, max_output_bytes=most)
    sock = gateway.connect(receive_bytes=4096)
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert at_bound.wait(PATIENCE_S)

    metrics = gateway.in_loop(lambda: gateway.server.metrics)
    received = 0
    while True:
        assert gateway.in_loop(lambda: metrics.holdings).unsent_bytes <= most + size
        piece = sock.recv(size)
        if not piece:
            break
        received += len(piece)
    assert received > size * total
    assert made[0] == total - 1


def test_an_application_that_raises_is_500_and_logged(serve: Serve, caplog: Any) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        raise KeyError("its own fault")

    gateway = serve(application)
    assert gateway.ask().status == 500
    (fault,) = gateway.take_faults()
    assert isinstance(fault, KeyError)
    assert "its own fault" in caplog.text
    assert "Traceback" in caplog.text


def test_one_that_raises_after_start_response_is_500(serve: Serve) -> None:
    def failing() -> Iterable[bytes]:
        yield b""
        raise KeyError("before any byte")

    pieces = Closable(failing())
    gateway = serve(returning(pieces))
    answer = gateway.ask()
    assert (answer.status, b"Internal Server Error" in answer.body) == (500, True)
    assert pieces.closed.wait(PATIENCE_S)
    gateway.take_faults()


def test_one_that_raises_within_the_body_has_its_connection_broken_off(serve: Serve) -> None:
    def failing() -> Iterable[bytes]:
        yield b"begun"
        raise KeyError("within")

    pieces = Closable(failing())
    gateway = serve(returning(pieces))
    received = gateway.exchange(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert received == b"" or received.startswith(b"HTTP/1.1 200 OK")
    assert b"0\r\n\r\n" not in received
    assert pieces.closed.wait(PATIENCE_S)
    gateway.take_faults()


@pytest.mark.parametrize("exception", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_is_no_exception_ends_the_exchange_and_not_the_thread(
    serve: Serve, exception: BaseException
) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        raise exception

    gateway = serve(application, threads=1)
    for _ in range(3):
        assert gateway.ask().status == 500
    assert all(isinstance(fault, RuntimeError) for fault in gateway.take_faults(3))


def test_close_that_raises_is_logged_and_the_reply_stands(serve: Serve) -> None:
    class Bad(Closable):
        def close(self) -> None:
            super().close()
            raise KeyError("in close")

    pieces = Bad([b"good"])
    gateway = serve(returning(pieces))
    assert gateway.ask().body == b"good"
    assert pieces.closed.wait(PATIENCE_S)
    while gateway.in_loop(lambda: gateway.handler.held):
        pass
    assert isinstance(gateway.take_faults()[0], KeyError)


def test_exc_info_replaces_a_head_that_is_not_sent(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/html"), ("X-First", "1")])
        try:
            raise KeyError("an error page follows")
        except KeyError:
            start_response("500 Oops", TEXT, sys.exc_info())
            return [b"the error page"]

    answer = serve(application).ask()
    assert (answer.status, answer.reason, answer.body) == (500, "Oops", b"the error page")
    assert answer.fields["content-type"] == "text/plain"
    assert "x-first" not in answer.fields


def test_exc_info_is_raised_where_the_head_is_sent(serve: Serve) -> None:
    raised: list[BaseException] = []

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", TEXT)(b"begun")
        try:
            raise KeyError("too late")
        except KeyError:
            try:
                start_response("500 Oops", TEXT, sys.exc_info())
            except KeyError as exc:
                raised.append(exc)
                raise
        return []

    gateway = serve(application)
    assert b"500" not in gateway.exchange(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert raised == gateway.take_faults()


def test_a_second_start_response_without_exc_info_is_a_fault(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        start_response("200 OK", TEXT)
        return []

    gateway = serve(application, is_validated=False)
    assert gateway.ask().status == 500
    assert isinstance(gateway.take_faults()[0], StateError)


@pytest.mark.parametrize("result", [[], iter([]), iter([b"body"])])
def test_an_application_that_never_starts_a_response_is_500(serve: Serve, result: Any) -> None:
    gateway = serve(lambda environ, start_response: result, is_validated=False)
    assert gateway.ask().status == 500
    assert isinstance(gateway.take_faults()[0], StateError)


BAD_STATUSES = [
    "200",
    200,
    b"200 OK",
    "OK",
    "20 OK",
    "99 Low",
    "100 Continue",
    "101 Switch",
    "600 X",
]
BAD_STATUSES += [
    "200 O\r\nX: 1",
    "200 \0",
    "200 \u20ac",
    "",
    None,
    "\u0662\u0660\u0660 OK",
    "200OK",
]


@pytest.mark.parametrize("status", BAD_STATUSES[1:])
def test_a_status_that_is_none_is_refused_where_it_is_given(serve: Serve, status: Any) -> None:
    gateway = serve(returning([b"x"], status), is_validated=False)
    answer = gateway.ask()
    assert (answer.status, "x" in answer.fields) == (500, False)
    assert isinstance(gateway.take_faults()[0], ArgumentError | ArgumentTypeError)


def test_a_status_without_a_phrase_gets_the_usual_one(serve: Serve) -> None:
    answer = serve(returning([b"x"], "404"), is_validated=False).ask()
    assert (answer.status, answer.reason) == (404, "Not Found")


@pytest.mark.parametrize(
    "field",
    [
        ("X", "a\r\nY: b"),
        ("X", "a\n b"),
        ("X", "\0"),
        ("X", b"bytes"),
        (b"X", "bytes"),
        ("X", 1),
        ("X", None),
        ("X Y", "blank"),
        ("X:", "colon"),
        ("", "empty"),
        ("X\r\nY", "line"),
        ("X", "\u20ac"),
        ("X", "1", "three"),
        ["X", "a list"],
        "XY",
        ("Connection", "close"),
        ("connection", "Upgrade"),
        ("Transfer-Encoding", "chunked"),
        ("Keep-Alive", "5"),
        ("Upgrade", "websocket"),
        ("TE", "trailers"),
        ("Content-Length", "-1"),
        ("Content-Length", "1, 1"),
        ("Content-Length", "0x1"),
        ("Content-Length", ""),
    ],
)
def test_a_field_that_may_not_be_sent_is_refused(serve: Serve, field: Any) -> None:
    gateway = serve(returning([b"x"], headers=[*TEXT, field]), is_validated=False)
    answer = gateway.ask()
    assert (answer.status, "y" in answer.fields) == (500, False)
    assert isinstance(gateway.take_faults()[0], ArgumentError | ArgumentTypeError)


@pytest.mark.parametrize("headers", [{"X": "1"}, (("X", "1"),), None, "X"])
def test_fields_that_are_no_list_are_refused(serve: Serve, headers: Any) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", headers)
        return []

    gateway = serve(application, is_validated=False)
    assert gateway.ask().status == 500
    assert isinstance(gateway.take_faults()[0], ArgumentTypeError)


def test_two_lengths_are_refused(serve: Serve) -> None:
    headers = [("Content-Length", "1"), ("Content-Length", "1")]
    gateway = serve(returning([b"x"], headers=headers), is_validated=False)
    assert gateway.ask().status == 500
    gateway.take_faults()


@pytest.mark.parametrize("result", [["text"], iter(["text"]), "text", b"bytes", None, 5, [None]])
def test_a_body_that_is_no_bytes_is_500(serve: Serve, result: Any) -> None:
    gateway = serve(returning(result), is_validated=False)
    assert gateway.ask().status == 500
    assert isinstance(gateway.take_faults()[0], TypeError)


@pytest.mark.parametrize("make", [list, iter])
def test_no_more_than_the_announced_length_is_sent(serve: Serve, make: Any) -> None:
    headers = [*TEXT, ("Content-Length", "4")]

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", headers)
        return make([b"abc", b"def", b"ghi"])

    answer = serve(application, is_validated=False).ask()
    assert answer.body == b"abcd"


def test_write_beyond_the_announced_length_raises(serve: Serve) -> None:
    raised: list[BaseException] = []

    def application(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [*TEXT, ("Content-Length", "4")])
        write(b"abc")
        try:
            write(b"de")
        except StateError as exc:
            raised.append(exc)
        return [b"d"]

    assert serve(application).ask().body == b"abcd"
    assert len(raised) == 1


def test_less_than_the_announced_length_breaks_the_connection_off(serve: Serve) -> None:
    headers = [*TEXT, ("Content-Length", "9")]
    gateway = serve(returning(iter([b"abc", b"def"]), headers=headers))
    received = gateway.exchange(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert received == b"" or received.partition(b"\r\n\r\n")[2] in (b"", b"abc", b"abcdef")
    assert "3 bytes" in str(gateway.take_faults()[0])


def test_a_list_shorter_than_the_announced_length_is_500(serve: Serve) -> None:
    headers = [*TEXT, ("Content-Length", "9")]
    gateway = serve(returning([b"abc"], headers=headers), is_validated=False)
    assert gateway.ask().status == 500
    gateway.take_faults()


def test_replies_may_be_compressed(serve: Serve) -> None:
    gateway = serve(returning([b"x" * 5000]))
    gateway.in_loop(gateway.server.set_compression, CompressionOptions())
    answer = gateway.ask(headers={"Accept-Encoding": "gzip"})
    assert answer.fields["content-encoding"] == "gzip"


def test_large_bodies_arrive_unchanged(serve: Serve) -> None:
    data = bytes(range(256)) * 20_000
    whole = serve(returning([data]))
    assert whole.ask().body == data
    pieces = [data[at : at + 70_001] for at in range(0, len(data), 70_001)]
    assert serve(returning(iter(pieces))).ask().body == data
