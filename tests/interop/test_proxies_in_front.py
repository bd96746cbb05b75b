"""nginx and HAProxy in front of the server, as most are run."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evsvc.core import EV_TIMEOUT, EventBase, tls
from evsvc.http import HttpServer, ServerOptions, ServerRequest, websocket
from evsvc.http.wire.limits import ReaderLimits
from tests.core.tls_ends import authority, issue, write_pem
from tests.http.peers import Peer, request
from tests.interop.fronts import haproxy_before, nginx_before
from tests.interop.runner import Result, run

pytestmark = pytest.mark.interop

LARGE = bytes(range(256)) * 4096  # 1 MiB

Curl = Callable[..., Result]
Program = Callable[[str], str]


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase() as made:
        yield made


class Site:
    """A server whose clients are proxies; `ports` are theirs, in the order of the requests."""

    def __init__(self, base: EventBase, options: ServerOptions, folder: Path) -> None:
        self.base = base
        self.server = HttpServer(base, options)
        self.port = self.server.bind_socket("127.0.0.1", 0).port
        self.ports: list[int] = []
        self.server.set_gencb(self._answer)
        self.server.set_cb("/stream", stream)
        self.server.set_cb("/broken", broken)
        self.server.serve_directory("/files/", folder)

    def _answer(self, got: ServerRequest, arg: object) -> None:
        self.ports.append(got.remote_port)
        got.output_headers.add("X-Method", got.method)
        got.send_reply(200, None, bytes(got.input_buffer) or got.uri.encode())


def stream(got: ServerRequest, arg: object) -> None:
    got.send_reply_start(200)
    for number in range(3):
        got.send_reply_chunk(b"%d," % number)
    got.send_reply_end()


def broken(got: ServerRequest, arg: object) -> None:
    """Break off when the first half is sent."""

    def fail(connection: object, arg: object) -> None:
        raise RuntimeError("and no more")

    got.send_reply_start(200)
    got.send_reply_chunk(LARGE, fail)


@pytest.fixture
def make_site(base: EventBase, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Return `make_site(**options of ServerOptions)`."""
    made: list[Site] = []
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "f").write_bytes(LARGE)

    def make(**options: object) -> Site:
        made.append(Site(base, ServerOptions(**options), folder))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for site in made:
        site.server.close()


@pytest.fixture
def curl(base: EventBase, program: Program) -> Curl:
    command = (program("curl"), "--disable", "--silent", "--show-error", "--noproxy", "*")

    def ask(*arguments: str, data: bytes = b"") -> Result:
        return run(base, *command, *arguments, data=data)

    return ask


@pytest.fixture(params=["nginx", "haproxy"])
def front(
    request: pytest.FixtureRequest, program: Program, tmp_path: Path
) -> Callable[[Site], object]:
    """Return `front(site)`: a context in which either stands before a site; gives its URL."""
    path = program(request.param)
    if request.param == "nginx":
        return lambda site: nginx_before(path, site.port, tmp_path)
    return lambda site: haproxy_before(path, site.port, tmp_path, backend="http-reuse always")


def test_connections_are_used_again(make_site, front, curl) -> None:
    site = make_site()
    with front(site) as url:
        done = curl(f"{url}/[1-100]")
    assert done.text == "".join(f"/{number}" for number in range(1, 101))
    assert len(set(site.ports)) < 5
    assert len(site.ports) == 100


def test_bodies_pass_both_ways(make_site, front, curl) -> None:
    with front(make_site()) as url:
        assert curl(f"{url}/", "--data-binary", "@-", data=LARGE).body == LARGE
        assert curl(f"{url}/", "--upload-file", "-", data=LARGE).body == LARGE
        assert curl(f"{url}/stream").body == b"0,1,2,"
        assert curl("--http1.0", f"{url}/stream").body == b"0,1,2,"


def test_head_ranges_and_conditions_pass(make_site, front, curl) -> None:
    code = ("--write-out", "%{http_code} %{size_download}", "--output", os.devnull)
    with front(make_site()) as url:
        head = curl("--head", f"{url}/files/f").text
        assert "200 OK" in head
        assert f"content-length: {len(LARGE)}" in head.lower()
        assert curl("--range", "5-9", f"{url}/files/f").body == LARGE[5:10]
        (etag,) = [line.split(": ")[1] for line in head.splitlines() if "tag:" in line.lower()]
        since = ("--header", f"If-None-Match: {etag}")
        assert curl(*since, *code, f"{url}/files/f").text == "304 0"
        assert curl(*code, f"{url}/files/f").text == f"200 {len(LARGE)}"


def test_a_reply_that_breaks_off_is_broken_off(make_site, front, curl) -> None:
    with front(make_site()) as url:
        done = curl(f"{url}/broken")
        assert done.status in (18, 56), "curl knows that it is not whole"
        assert LARGE.startswith(done.body)
        assert curl(f"{url}/after").text == "/after"


def test_a_refusal_of_a_long_body_arrives(make_site, front, curl) -> None:
    """The proxy is still sending when 413 comes, and must not take it for a failure of ours."""
    site = make_site(limits=ReaderLimits(max_body_bytes=1000))
    code = ("--write-out", "%{http_code}", "--output", os.devnull, "--header", "Expect:")
    with front(site) as url:
        assert curl(*code, f"{url}/", "--data-binary", "@-", data=LARGE * 4).text == "413"
        chunked = ("--header", "Transfer-Encoding: chunked")
        done = curl(*code, *chunked, f"{url}/", "--data-binary", "@-", data=LARGE * 4)
        assert done.text == "413"


def test_idle_connections_that_we_close_cost_no_request(make_site, front, curl) -> None:
    """Each request comes about when the idle connection to us ends."""
    site = make_site(idle_s=0.01)
    form = ("--write-out", " %{http_code}\n", "--rate", "6000/m")
    with front(site) as url:
        done = curl(*form, f"{url}/[1-100]")
    codes = [line.split()[1] for line in done.text.splitlines()]
    assert codes == ["200"] * 100
    assert len(set(site.ports)) > 2, "none was closed, and nothing was tried"


def test_a_proxy_that_ends_idle_connections_before_we_do_loses_no_post(
    make_site, program, curl, tmp_path
) -> None:
    """A POST is not sent again, so that none may meet a connection that we are closing."""
    site = make_site(idle_s=2.0, announces_keep_alive=True)
    form = ("--write-out", " %{http_code}\n", "--rate", "6000/m", "--data", "x")
    pool = "keepalive_timeout 10ms;"
    with nginx_before(program("nginx"), site.port, tmp_path, pool=pool) as url:
        done = curl(*form, f"{url}/[1-100]")
    assert done.text.split() == ["x", "200"] * 100
    assert len(set(site.ports)) > 2, "none was closed, and nothing was tried"


def test_few_requests_on_a_connection_cost_none(make_site, front, curl) -> None:
    site = make_site(max_requests=3)
    with front(site) as url:
        done = curl("--write-out", "%{http_code}\n", "--output", os.devnull, f"{url}/[1-100]")
    assert done.text.split() == ["200"] * 100
    assert len(set(site.ports)) >= 34


def test_a_graceful_stop_loses_no_request(base, make_site, front, curl) -> None:
    site = make_site()
    waiting: list[ServerRequest] = []

    def stop(got: ServerRequest, arg: object) -> None:
        waiting.append(got)
        site.server.shutdown()
        base.once(-1, EV_TIMEOUT, lambda *_: got.send_reply(200, None, b"late"), timeout=0.05)

    site.server.set_cb("/stop", stop)
    with front(site) as url:
        assert curl(f"{url}/before").text == "/before"
        assert curl(f"{url}/stop").text == "late"
        assert site.server.connection_count == 0
    assert len(waiting) == 1


def test_what_a_client_sends_comes_as_it_does_and_pieces_leave_at_once(
    base, make_site, program, tmp_path
) -> None:
    """nginx without its buffers, in either direction."""
    site, pieces = make_site(), []
    got_it: list[ServerRequest] = []

    def take(got: ServerRequest, arg: object) -> None:
        got_it.append(got)
        got.set_body_cbs(lambda got, data, arg: pieces.append(data), finish)
        got.send_reply_start(200)

    def finish(got: ServerRequest, is_whole: bool, arg: object) -> None:
        got.send_reply_end()

    site.server.set_cb("/both", take, streams=True)
    unbuffered = ("proxy_buffering off;", "proxy_request_buffering off;")
    with (
        nginx_before(program("nginx"), site.port, tmp_path, *unbuffered) as url,
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as sock,
    ):
        peer = Peer(base, sock)
        peer.send(request("/both", "Transfer-Encoding: chunked", method="POST"))
        for number in range(3):
            peer.send(b"2\r\n%d;\r\n" % number)
            peer.receive_until(lambda number=number: b"%d;" % number in b"".join(pieces))
            got_it[0].send_reply_chunk(b"<%d>" % number)
            peer.receive_until(lambda number=number: b"<%d>" % number in peer.received)
        peer.send(b"0\r\n\r\n")
        peer.receive_until(lambda: peer.received.endswith(b"0\r\n\r\n"))
    assert b"".join(pieces) == b"0;1;2;"


def test_haproxy_asks_for_our_health(base, make_site, program, curl, tmp_path) -> None:
    site, healthy = make_site(), [True]
    changed = []

    def health(got: ServerRequest, arg: object) -> None:
        got.send_reply(200 if healthy[0] else 503)
        changed.append(healthy[0])

    site.server.set_cb("/health", health)
    backend = "option httpchk GET /health"
    options = {"backend": backend, "server": "check inter 20ms fall 2 rise 2"}
    with haproxy_before(program("haproxy"), site.port, tmp_path, **options) as url:
        form = ("--write-out", "%{http_code}", "--output", os.devnull, f"{url}/")
        assert curl(*form).text == "200"
        for state, code in ((False, "503"), (True, "200")):
            healthy[0] = state
            for _ in range(500):
                if curl(*form).text == code:
                    break
            else:
                pytest.fail(f"HAProxy does not notice that the health is {state}")
    assert {True, False} <= set(changed)


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
@pytest.mark.parametrize("reuse", ["never", "safe"])
def test_haproxy_tells_who_asks_by_the_proxy_protocol(
    make_site, program, curl, tmp_path, version, reuse
) -> None:
    site = make_site()
    bound = site.server.bind_socket("127.0.0.1", 0, proxy_protocol=["127.0.0.1"])
    seen = []

    def who(got: ServerRequest, arg: object) -> None:
        seen.append((got.client.address, got.remote_host))
        got.send_reply(200, None, got.client.address.encode())

    site.server.set_cb("/who", who)
    options = {"backend": f"http-reuse {reuse}", "server": f"{version} check inter 20ms"}
    with haproxy_before(program("haproxy"), bound.port, tmp_path, **options) as url:
        for address in ("127.0.0.9", "127.0.0.8", "127.0.0.9"):
            assert curl("--interface", address, f"{url}/who").text == address
    assert seen == [(address, address) for address, _ in seen]


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_haproxy_speaks_tls_to_us_behind_the_proxy_protocol(
    make_site, program, curl, tmp_path, version
) -> None:
    authority().cert_pem.write_to_path(tmp_path / "ca.pem")
    pem = write_pem(issue("inside.example"), tmp_path / "server.pem")
    site = make_site()
    seen = []

    def who(got: ServerRequest, arg: object) -> None:
        info = got.connection and got.connection.tls
        seen.append((got.client.address, got.client.scheme, info and info.server_name))
        got.send_reply(200, None, LARGE)

    site.server.set_cb("/who", who)
    context = tls.server_context(pem)
    bound = site.server.bind_socket("127.0.0.1", 0, tls=context, proxy_protocol=["127.0.0.1"])
    verified = f"ssl verify required ca-file {tmp_path}/ca.pem sni str(inside.example)"
    options = {"server": f"{version} {verified} verifyhost inside.example"}
    with haproxy_before(program("haproxy"), bound.port, tmp_path, **options) as url:
        assert curl("--interface", "127.0.0.9", f"{url}/who").body == LARGE
    assert seen == [("127.0.0.9", "https", "inside.example")]


def test_curl_speaks_the_proxy_protocol(make_site, curl) -> None:
    site = make_site()
    bound = site.server.bind_socket("127.0.0.1", 0, proxy_protocol=["127.0.0.1"])
    site.server.set_cb("/who", lambda got, arg: got.send_reply(200, None, b"%d" % got.remote_port))
    form = ("--haproxy-protocol", "--write-out", " %{local_port}")
    told, really = curl(*form, f"http://127.0.0.1:{bound.port}/who").text.split()
    assert told == really
    without = curl(f"http://127.0.0.1:{bound.port}/who")
    assert without.status != 0, "one that does not say it is not served"


def test_a_websocket_passes(base, make_site, program, tmp_path) -> None:
    site, told = make_site(), []

    def on_request(got: ServerRequest, arg: object) -> None:
        websocket.accept(got, lambda session, kind, data, arg: session.send_text(data * 2))

    def on_open(session: websocket.WsConnection | None, error: object, arg: object) -> None:
        assert session is not None, error
        session.set_closecb(lambda session, arg: base.loopbreak())
        session.send_text("x" * 50_000)

    def on_answer(session: websocket.WsConnection, kind: object, data: str, arg: object) -> None:
        told.append(data)
        session.shutdown(1000)

    site.server.set_cb("/chat", on_request)
    upgrade = ("proxy_set_header Upgrade $http_upgrade;", 'proxy_set_header Connection "upgrade";')
    fronts = [
        nginx_before(program("nginx"), site.port, tmp_path, *upgrade),
        haproxy_before(program("haproxy"), site.port, tmp_path),
    ]
    for front in fronts:
        with front as url:
            websocket.connect(base, url.replace("http", "ws") + "/chat", on_answer, on_open)
            base.dispatch()
    assert told == ["x" * 100_000] * 2
