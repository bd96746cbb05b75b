"""Flask, Django, werkzeug and httpbin, unchanged, on an HttpServer; curl and others ask."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask
import httpbin
import pytest
import werkzeug.testapp
from werkzeug.wrappers import Request, Response

from evsvc.commands.hosting import kind_of
from tests.hosted import served
from tests.wsgi import django_site
from tests.wsgi.gateway import Gateway

pytestmark = pytest.mark.interop


@pytest.fixture
def serve() -> Iterator[Callable[..., Gateway]]:
    yield from served(Gateway)


def flask_app() -> flask.Flask:
    """The hello of Flask's own quick start, and what else a small one does."""
    app = flask.Flask(__name__)

    @app.route("/")
    def hello_world() -> str:
        return "<p>Hello, World!</p>"

    @app.route("/echo", methods=["POST", "PATCH"])
    def echo() -> flask.Response:
        return flask.Response(flask.request.get_data(), mimetype="application/octet-stream")

    @app.route("/form", methods=["POST"])
    def form() -> dict[str, Any]:
        sizes = {name: len(file.read()) for name, file in flask.request.files.items()}
        return {"form": flask.request.form, "files": sizes}

    @app.route("/lines", methods=["POST"])
    def lines() -> flask.Response:
        stream = flask.request.stream
        return flask.Response(line.upper() for line in iter(stream.readline, b""))

    @app.route("/file")
    def file() -> flask.Response:
        return flask.send_file(__file__, conditional=True)

    @app.route("/fails")
    def fails() -> str:
        raise KeyError("a view's own fault")

    return app


@pytest.fixture
def flask_site(serve: Callable[..., Gateway]) -> Gateway:
    """wsgiref does not look on: it objects to the `read()` without a size that Flask makes."""
    return serve(flask_app(), is_validated=False)


def url(gateway: Gateway, path: str = "/") -> str:
    return f"http://127.0.0.1:{gateway.port}{path}"


def test_flask_says_hello(flask_site: Gateway, curl: Callable[..., bytes]) -> None:
    assert curl(url(flask_site)) == b"<p>Hello, World!</p>"
    head = curl("--head", url(flask_site)).decode()
    assert "Content-Length: 20\r\n" in head
    assert "Content-Type: text/html; charset=utf-8\r\n" in head
    allowed = curl("-i", "-X", "OPTIONS", url(flask_site)).decode()
    assert "Allow: " in allowed
    assert curl("-o", "/dev/null", "-w", "%{http_code}", url(flask_site, "/none")) == b"404"


def test_wsgiref_has_nothing_against_the_hello(
    serve: Callable[..., Gateway], curl: Callable[..., bytes]
) -> None:
    assert curl(url(serve(flask_app()))) == b"<p>Hello, World!</p>"


def test_flask_takes_bodies(
    flask_site: Gateway, curl: Callable[..., bytes], tmp_path: Path
) -> None:
    data = bytes(range(256)) * 5000
    body = tmp_path / "body"
    body.write_bytes(data)
    post = ("--data-binary", f"@{body}")
    assert curl(*post, url(flask_site, "/echo")) == data
    chunked = (*post, "-H", "Transfer-Encoding: chunked", "-X", "PATCH")
    assert curl(*chunked, url(flask_site, "/echo")) == data
    form = ("-F", "a=1", "-F", f"file=@{body}")
    told = json.loads(curl(*form, url(flask_site, "/form")))
    assert told == {"form": {"a": "1"}, "files": {"file": len(data)}}
    text = b"".join(b"line %d\n" % number for number in range(20_000))
    assert curl("--data-binary", "@-", url(flask_site, "/lines"), data=text) == text.upper()


def test_flask_sends_files_and_parts_of_them(
    flask_site: Gateway, curl: Callable[..., bytes]
) -> None:
    data = Path(__file__).read_bytes()
    assert curl(url(flask_site, "/file")) == data
    assert curl("-r", "10-99", url(flask_site, "/file")) == data[10:100]
    etag = curl("-I", url(flask_site, "/file")).decode().partition("ETag: ")[2].split("\r\n")[0]
    again = ("-H", f"If-None-Match: {etag}", "-w", "%{http_code}")
    assert curl(*again, url(flask_site, "/file")) == b"304"


def test_flask_answers_for_a_view_that_fails(
    flask_site: Gateway, curl: Callable[..., bytes], caplog: Any
) -> None:
    assert b"Internal Server Error" in curl(url(flask_site, "/fails"))
    assert "a view's own fault" in caplog.text


@pytest.fixture(params=["/", "/shop/"])
def django(serve: Callable[..., Gateway], request: Any) -> tuple[Gateway, str]:
    gateway = serve(django_site.application, prefix=request.param)
    return gateway, url(gateway, request.param)


def test_django_says_hello(django: tuple[Gateway, str], curl: Callable[..., bytes]) -> None:
    _, root = django
    assert curl(root) == b"Hello, World!"
    assert curl(f"{root}?name=J%C3%BCrgen") == "Hello, Jürgen!".encode()
    assert curl(f"{root}where/") == f"{root}where/x".encode()
    assert curl(f"{root}async/") == b"from a coroutine"
    assert curl(f"{root}stream/").split() == [b"%d" % number for number in range(1000)]
    assert curl(f"{root}file/") == Path(django_site.__file__).read_bytes()
    assert b"a=b file=3" in curl(
        "-F", "a=b", "-F", "file=@-;filename=f", f"{root}form/", data=b"abc"
    )


def test_django_answers_for_a_view_that_fails(
    django: tuple[Gateway, str], curl: Callable[..., bytes], caplog: Any
) -> None:
    assert b"Server Error (500)" in curl(f"{django[1]}fails/")
    assert "a view's own fault" in caplog.text


@pytest.mark.parametrize(
    "app", [werkzeug.testapp.test_app, Request.application(lambda r: Response(r.path))]
)
def test_werkzeug_applications(
    serve: Callable[..., Gateway], curl: Callable[..., bytes], app: Any
) -> None:
    gateway = serve(app)
    body = curl(url(gateway, "/some/path"))
    assert b"WSGI Information" in body or body == b"/some/path"


def test_httpbin(serve: Callable[..., Gateway], curl: Callable[..., bytes]) -> None:
    gateway = serve(httpbin.app, is_validated=False)
    assert json.loads(curl(url(gateway, "/get?a=1")))["args"] == {"a": "1"}
    told = json.loads(curl("-d", "a=1", "-X", "PATCH", url(gateway, "/patch")))
    assert told["form"] == {"a": "1"}
    assert curl(url(gateway, "/stream/5")).count(b"\n") == 5
    assert json.loads(curl("-L", url(gateway, "/redirect/2")))["url"] == url(gateway, "/get")
    assert len(curl(url(gateway, "/bytes/5000"))) == 5000
    assert curl(url(gateway, "/drip?duration=0&numbytes=5&delay=0")) == b"*****"
    assert json.loads(curl("--compressed", url(gateway, "/gzip")))["gzipped"] is True
    assert curl("-w", "%{http_code}", url(gateway, "/status/418"))[-3:] == b"418"


@pytest.mark.parametrize("app", [flask_app(), django_site.application, httpbin.app])
def test_evsvc_serve_sees_what_they_are(app: Any) -> None:
    assert kind_of(app) == "wsgi"
