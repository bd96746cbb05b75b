"""ab, wrk and h2load: thousands of requests, each of which is answered."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evsvc.core import EventBase
from evsvc.http import HttpServer, ServerOptions, ServerRequest
from tests.interop.runner import run

pytestmark = [pytest.mark.interop, pytest.mark.no_cover]

PAGE = b"x" * 1000


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase() as made:
        yield made


@pytest.fixture
def server(base: EventBase) -> Iterator[HttpServer]:
    with HttpServer(base) as made:
        made.set_cb("/page", lambda got, arg: got.send_reply(200, None, PAGE))
        made.set_cb("/stream", stream)
        made.set_cb("/echo", lambda got, arg: got.send_reply(200, None, got.input_buffer))
        yield made


def stream(got: ServerRequest, arg: object) -> None:
    got.send_reply_start(200)
    for start in range(0, len(PAGE), 250):
        got.send_reply_chunk(PAGE[start : start + 250])
    got.send_reply_end()


def url_of(server: HttpServer, path: str) -> str:
    return f"http://127.0.0.1:{server.bind_socket('127.0.0.1', 0).port}{path}"


def figure(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found, text
    return int(found[1])


@pytest.mark.parametrize("path", ["/page", "/stream"])
@pytest.mark.parametrize("kept", [True, False])
def test_ab(
    base: EventBase, server: HttpServer, program: Callable[[str], str], kept: bool, path: str
) -> None:
    """ab speaks HTTP/1.0: kept on request, a stream ends with the connection."""
    flags = ("-k",) if kept else ()
    done = run(base, program("ab"), "-q", *flags, "-n", "2000", "-c", "20", url_of(server, path))
    assert done.status == 0, done
    assert figure(r"Complete requests: +(\d+)", done.text) == 2000
    assert figure(r"Failed requests: +(\d+)", done.text) == 0
    assert "Non-2xx" not in done.text
    assert figure(r"HTML transferred: +(\d+)", done.text) == 2000 * len(PAGE)
    if kept:
        kept_alive = 2000 if path == "/page" else 0
        assert figure(r"Keep-Alive requests: +(\d+)", done.text) == kept_alive


def test_ab_posts(
    base: EventBase, server: HttpServer, program: Callable[[str], str], tmp_path: Path
) -> None:
    body = tmp_path / "body"
    body.write_bytes(PAGE * 8)
    ab = (program("ab"), "-q", "-k", "-n", "1000", "-c", "10", "-p", str(body))
    done = run(base, *ab, url_of(server, "/echo"))
    assert figure(r"Complete requests: +(\d+)", done.text) == 1000
    assert figure(r"Failed requests: +(\d+)", done.text) == 0
    assert figure(r"HTML transferred: +(\d+)", done.text) == 8000 * len(PAGE)


def test_connections_that_the_server_ends_are_told_in_time(
    base: EventBase, program: Callable[[str], str]
) -> None:
    """After ten requests a connection is closed; ab counts a reply that it cannot read."""
    with HttpServer(base, ServerOptions(max_requests=10)) as server:
        server.set_gencb(lambda got, arg: got.send_reply(200, None, PAGE))
        url = url_of(server, "/")
        done = run(base, program("ab"), "-q", "-k", "-n", "2000", "-c", "10", url)
    assert figure(r"Failed requests: +(\d+)", done.text) == 0
    kept = figure(r"Keep-Alive requests: +(\d+)", done.text)
    assert 1800 <= kept <= 1810, "the last ten connections may have had fewer"


PIPELINE = """
init = function(args)
  local requests = {}
  for n = 1, 16 do requests[n] = wrk.format(nil, "/page?" .. n) end
  requests = table.concat(requests)
  request = function() return requests end
end
done = function(summary, latency, requests)
  local e = summary.errors
  print(string.format("requests=%d bytes=%d", summary.requests, summary.bytes))
  print(string.format("errors=%d", e.connect + e.read + e.write + e.status + e.timeout))
end
"""
PLAIN = PIPELINE.replace("for n = 1, 16 do", "for n = 1, 1 do")


@pytest.mark.parametrize("script", [PLAIN, PIPELINE], ids=["one by one", "16 pipelined"])
@pytest.mark.parametrize("path", ["/page", "/stream"])
def test_wrk(
    base: EventBase,
    server: HttpServer,
    program: Callable[[str], str],
    tmp_path: Path,
    script: str,
    path: str,
) -> None:
    lua = tmp_path / "script.lua"
    lua.write_text(script.replace("/page", path))
    wrk = (program("wrk"), "--threads", "1", "--connections", "32", "--duration", "1s")
    done = run(base, *wrk, "--script", str(lua), url_of(server, path))
    assert figure(r"errors=(\d+)", done.text) == 0
    requests = figure(r"requests=(\d+)", done.text)
    assert requests > 100
    assert figure(r"bytes=(\d+)", done.text) >= requests * len(PAGE)


@pytest.mark.parametrize("streams", ["1", "16"], ids=["one by one", "16 pipelined"])
@pytest.mark.parametrize("path", ["/page", "/stream"])
def test_h2load_over_1_1(
    base: EventBase, server: HttpServer, program: Callable[[str], str], streams: str, path: str
) -> None:
    h2load = (program("h2load"), "--h1", "-n", "2000", "-c", "20", "-m", streams)
    done = run(base, *h2load, url_of(server, path))
    counts = r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed"
    found = re.search(counts, done.text)
    assert found, done
    assert [int(count) for count in found.groups()] == [2000, 2000, 2000, 0]
    assert figure(r"status codes: (\d+) 2xx", done.text) == 2000
    assert figure(r"\((\d+)\) data", done.text) == 2000 * len(PAGE)
