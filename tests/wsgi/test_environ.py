"""What an application is told of a request."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError
from evsvc.http import Client, Headers, TrustedProxies
from evsvc.wsgi import WsgiHandler
from evsvc.wsgi.environ import add_fields, make_environ, path_info
from evsvc.wsgi.error_stream import MAX_LINE_CHARACTERS, ErrorStream
from evsvc.wsgi.file_wrapper import FileWrapper
from tests.core.tls_ends import authority, issue, server_context_for
from tests.hosted import PATIENCE_S
from tests.wsgi.gateway import Gateway

Serve = Callable[..., Gateway]


def tell(environ: Any, start_response: Any) -> Any:
    """Answer with the environ as JSON."""
    plain = {
        name: value for name, value in environ.items() if isinstance(value, str | bool | tuple)
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(plain).encode()]


def told(gateway: Gateway, path: str = "/", **how: Any) -> dict[str, Any]:
    answer = gateway.ask(path, **how)
    assert answer.status == 200
    return json.loads(answer.body)


def test_a_plain_get(serve: Serve) -> None:
    gateway = serve(tell)
    environ = told(gateway, "/a%20path;p=1?x=%20y&z", headers={"Accept": "text/html"})
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["SCRIPT_NAME"] == ""
    assert environ["PATH_INFO"] == "/a path;p=1"
    assert environ["QUERY_STRING"] == "x=%20y&z"
    assert environ["REQUEST_URI"] == "/a%20path;p=1?x=%20y&z"
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("127.0.0.1", str(gateway.port))
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["REMOTE_PORT"].isdigit()
    assert environ["HTTP_HOST"] == f"127.0.0.1:{gateway.port}"
    assert environ["HTTP_ACCEPT"] == "text/html"
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["wsgi.version"] == [1, 0]
    assert environ["wsgi.multithread"] is True
    assert environ["wsgi.multiprocess"] is environ["wsgi.run_once"] is False
    assert "CONTENT_LENGTH" not in environ
    assert "CONTENT_TYPE" not in environ


def test_the_program_says_whether_other_processes_serve_it(serve: Serve) -> None:
    assert told(serve(tell, multiprocess=True))["wsgi.multiprocess"] is True


def test_a_post_tells_type_and_length_without_http_before_them(serve: Serve) -> None:
    environ = told(serve(tell), method="POST", body=b"abc", headers={"Content-Type": "x/y"})
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("x/y", "3")
    assert "HTTP_CONTENT_TYPE" not in environ
    assert "HTTP_CONTENT_LENGTH" not in environ


@pytest.mark.parametrize(
    ("path", "script_name", "expected"),
    [
        ("/", "", "/"),
        ("/caf%C3%A9", "", "/caf\xc3\xa9"),
        ("/%E4%ff%00", "", "/\xe4\xff\0"),
        ("/a%2Fb", "", "/a/b"),
        ("/%", "", "/%"),
        ("/app/x", "/app", "/x"),
        ("/app/", "/app", "/"),
        ("/app", "/app", ""),
        ("/caf%c3%a9/x", "/caf\xe9", "/x"),
        ("/%61pp/x", "/app", "/x"),
    ],
)
def test_the_path_is_decoded_to_the_bytes_it_stands_for(
    path: str, script_name: str, expected: str
) -> None:
    assert path_info(path, script_name) == expected


def test_a_mounted_application_knows_where(serve: Serve) -> None:
    gateway = serve(tell, prefix="/my/app/")
    for path, rest in [("/my/app/x/y", "/x/y"), ("/my/app/", "/"), ("/my/app", "")]:
        environ = told(gateway, path)
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/my/app", rest)
    for path in ("/", "/my", "/my/apple", "/my/ap"):
        assert gateway.ask(path).status == 404


def test_a_field_with_an_underscore_cannot_pass_for_another(serve: Serve) -> None:
    headers = {"X_Remote_User": "root", "Content_Length": "9", "X-Remote-Addr": "me"}
    environ = told(serve(tell), headers=headers)
    assert environ["HTTP_X_REMOTE_ADDR"] == "me"
    assert "HTTP_X_REMOTE_USER" not in environ
    assert "CONTENT_LENGTH" not in environ


def test_fields_of_one_name_are_joined() -> None:
    environ: dict[str, Any] = {}
    pairs = [("X-A", "1"), ("x-a", "2"), ("Cookie", "a=1"), ("Cookie", "b=2"), ("Accept", "")]
    add_fields(environ, pairs)
    assert environ == {"HTTP_X_A": "1,2", "HTTP_COOKIE": "a=1; b=2", "HTTP_ACCEPT": ""}


def test_a_field_cannot_replace_what_the_server_says(serve: Serve) -> None:
    environ = told(serve(tell), headers={"wsgi.url_scheme": "gopher", "REMOTE-ADDR": "1.2.3.4"})
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["REMOTE_ADDR"] == "127.0.0.1"


def test_the_client_is_whom_a_trusted_proxy_tells(serve: Serve) -> None:
    gateway = serve(tell)
    headers = {
        "X-Forwarded-For": "192.0.2.7",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "shop.example",
    }
    environ = told(gateway, headers=headers)
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("127.0.0.1", "http")
    trusted = TrustedProxies(["127.0.0.1"], takes=("for", "proto", "host"))
    gateway.in_loop(gateway.server.set_trusted_proxies, trusted)
    environ = told(gateway, headers=headers)
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("192.0.2.7", "https")
    assert environ["HTTP_HOST"] == "shop.example"


def test_over_tls_the_scheme_is_https(serve: Serve) -> None:
    gateway = serve(tell)
    context = server_context_for(issue("127.0.0.1"))
    bind = partial(gateway.server.bind_socket, "127.0.0.1", 0, tls=context)
    port = gateway.in_loop(bind).port
    trust = ssl.create_default_context()
    authority().configure_trust(trust)
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE_S, context=trust)
    connection.request("GET", "/")
    environ = json.loads(connection.getresponse().read())
    connection.close()
    assert (environ["wsgi.url_scheme"], environ["SERVER_PORT"]) == ("https", str(port))


def test_a_client_of_a_unix_socket_has_no_address(serve: Serve, tmp_path: Any) -> None:
    gateway = serve(tell)
    path = str(tmp_path / "s")
    gateway.in_loop(gateway.server.bind_unix, path)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(path)
        sock.sendall(b"GET / HTTP/1.0\r\nHost: h:81\r\n\r\n")
        received = b"".join(iter(lambda: sock.recv(65536), b""))
    environ = json.loads(received.partition(b"\r\n\r\n")[2])
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("h", "81")
    assert environ["REMOTE_ADDR"] == ""


@pytest.mark.parametrize(
    ("scheme", "host", "name", "port"),
    [
        ("https", "shop.example", "shop.example", 443),
        ("http", "[::1]:81", "[::1]", 81),
        ("http", None, "localhost", 80),
        ("gopher", "h:", "h", 80),
    ],
)
def test_over_no_socket_the_server_is_whom_the_client_addressed(
    scheme: str, host: str | None, name: str, port: int
) -> None:
    request: Any = SimpleNamespace(
        client=Client("", 0, scheme, host),
        connection=None,
        encoded_path="/",
        input_headers=Headers(),
        method="GET",
        minor=1,
        query=None,
        uri="/",
    )
    environ = make_environ(request, "")
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (name, str(port))


@pytest.mark.parametrize("method", ["GET", "PATCH", "OPTIONS", "PROPFIND", "DELETE"])
def test_usual_methods_reach_the_application(serve: Serve, method: str) -> None:
    assert told(serve(tell, is_validated=False), method=method)["REQUEST_METHOD"] == method


def test_methods_are_limited_where_the_program_says_so(serve: Serve) -> None:
    gateway = serve(tell)
    gateway.in_loop(lambda: gateway.handler.mount(gateway.server, "/few/", methods=("GET",)))
    assert gateway.ask("/few/").status == gateway.ask("/few").status == 200
    assert gateway.ask("/few/", "POST", b"").status == 405
    assert gateway.ask("/", "BREW").status == 501


def test_a_handler_may_be_the_general_callback_and_take_whole_bodies(serve: Serve) -> None:
    def echo(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["SCRIPT_NAME"].encode() + environ["wsgi.input"].read(100)]

    gateway = serve(echo, prefix="/other/")
    gateway.in_loop(gateway.server.set_gencb, gateway.handler)
    assert gateway.ask("/", "POST", b"whole").body == b"whole"


def test_mistakes_raise_where_they_are_made(serve: Serve) -> None:
    gateway = serve(tell)
    with pytest.raises(ArgumentTypeError, match="5"):
        WsgiHandler(gateway.base, 5)  # type: ignore[arg-type]
    handler = gateway.handler
    with pytest.raises(ArgumentError, match="bare"):
        handler.mount(gateway.server, "bare")
    gateway.in_loop(lambda: gateway.server.set_cb("/taken", print))
    with pytest.raises(ArgumentError, match="taken"):
        handler.mount(gateway.server, "/taken/")
    assert gateway.ask("/taken/x").status == 200  # by the application at "/", as before


def test_errors_go_to_the_log_by_lines(caplog: Any) -> None:
    stream = ErrorStream()
    with caplog.at_level(logging.ERROR, "evsvc.wsgi"):
        assert stream.write("half ") == 5
        assert caplog.messages == []
        stream.writelines(["a line\nsecond\n", "rest"])
        assert caplog.messages == ["half a line", "second"]
        stream.flush()
        stream.flush()
        assert caplog.messages[2:] == ["rest"]
        with pytest.raises(ArgumentTypeError, match="bytes"):
            stream.write(b"bytes")  # type: ignore[arg-type]


def test_a_line_of_errors_is_bounded(caplog: Any) -> None:
    stream = ErrorStream()
    with caplog.at_level(logging.ERROR, "evsvc.wsgi"):
        stream.write("x" * MAX_LINE_CHARACTERS)
        assert caplog.messages == []
        stream.write("y")
        assert [len(line) for line in caplog.messages] == [MAX_LINE_CHARACTERS, 1]
        stream.write("z" * (MAX_LINE_CHARACTERS * 2) + "\n")
        assert [len(line) for line in caplog.messages[2:]] == [MAX_LINE_CHARACTERS] * 2


def test_what_an_application_writes_to_errors_is_logged(serve: Serve, caplog: Any) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        environ["wsgi.errors"].write("without an end")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x"]

    gateway = serve(application)
    gateway.ask()
    gateway.stop()
    assert "without an end" in caplog.text


class OnlyRead:
    """A file with `read` alone."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._data.read(size)


def test_a_wrapper_of_what_can_only_be_read_is_iterated_over() -> None:
    wrapper = FileWrapper(OnlyRead(b"x" * 10), 4)
    assert not hasattr(wrapper, "close")
    assert list(wrapper) == [b"xxxx", b"xxxx", b"xx"]
    assert wrapper.as_buffer(None) is None


@pytest.mark.parametrize(("offset", "length"), [(0, None), (0, 10), (5, None), (5, 3), (10, None)])
def test_a_plain_file_is_sent_by_the_kernel_from_its_position_on(
    tmp_path: Any, offset: int, length: int | None
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        file.seek(offset)
        buffer = FileWrapper(file).as_buffer(length)
    assert buffer is not None
    end = None if length is None else offset + length
    assert bytes(buffer) == b"0123456789"[offset:end]
    buffer.close()


def test_other_files_are_read(tmp_path: Any) -> None:
    path = tmp_path / "file.gz"
    with gzip.open(path, "wb") as packed:
        packed.write(b"unpacked")
    with gzip.open(path) as unpacked:
        wrapper = FileWrapper(unpacked)
        assert wrapper.as_buffer(None) is None
        assert b"".join(wrapper) == b"unpacked"
    with open("/dev/null", "rb") as device:
        assert FileWrapper(device).as_buffer(None) is None
    with path.open("rb") as short:
        assert FileWrapper(short).as_buffer(1_000_000) is None


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", [[], [("Content-Length", "70000")], [("Content-Length", "5")]])
@pytest.mark.parametrize("is_validated", [True, False])
def test_files_are_served_whole_or_as_long_as_announced(
    serve: Serve, tmp_path: Any, method: str, headers: Any, is_validated: bool
) -> None:
    path = tmp_path / "file"
    data = bytes(range(250)) * 280
    path.write_bytes(data)

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain"), *headers])
        return environ["wsgi.file_wrapper"](path.open("rb"))

    answer = serve(application, is_validated=is_validated).ask(method=method)
    size = int(headers[0][1]) if headers else len(data)
    assert answer.body == (b"" if method == "HEAD" else data[:size])
    if headers or not is_validated:
        assert answer.fields["content-length"] == str(size)


def test_a_file_shorter_than_announced_breaks_the_connection_off(
    serve: Serve, tmp_path: Any
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"short")

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "9")])
        return environ["wsgi.file_wrapper"](path.open("rb"))

    gateway = serve(application, is_validated=False)
    received = gateway.exchange(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert received == b"" or b"Content-Length: 9" in received
    gateway.take_faults()
