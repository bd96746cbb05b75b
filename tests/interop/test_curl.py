"""curl, as a judge of the HTTP server that nobody here wrote."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evsvc.core import EV_PERSIST, EV_READ, Event, EventBase, tls
from evsvc.http import HttpServer, ServerOptions, ServerRequest, TlsContexts
from evsvc.http.wire.limits import ReaderLimits
from tests.core.tls_ends import authority, issue, write_pem
from tests.interop.runner import Result, run

pytestmark = pytest.mark.interop

LARGE = bytes(range(256)) * 8192  # 2 MiB


class Curl:
    """Runs curl while the base loops, with the real clock."""

    def __init__(self, base: EventBase, path: str, port: int) -> None:
        self._base = base
        self._path = path
        self.url = f"http://127.0.0.1:{port}"

    def __call__(self, *arguments: str, data: bytes = b"") -> Result:
        """Run `curl --silent --show-error arguments...`; `data` is its standard input."""
        command = (self._path, "--disable", "--silent", "--show-error", "--noproxy", "*")
        return run(self._base, *command, *arguments, data=data)


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase() as made:
        yield made


@pytest.fixture
def server(base: EventBase) -> Iterator[HttpServer]:
    """A server with `/echo` (body), `/head` (request line and header), `/stream` and `/post`."""
    limits = ReaderLimits(max_headers_bytes=4096, max_body_bytes=len(LARGE))
    with HttpServer(base, ServerOptions(limits=limits)) as made:
        made.set_cb("/echo", lambda got, arg: got.send_reply(200, None, bytes(got.input_buffer)))
        made.set_cb("/head", describe)
        made.set_cb("/stream", stream)
        made.set_cb("/post", lambda got, arg: got.send_reply(204), methods=("POST",))
        yield made


def describe(got: ServerRequest, arg: object) -> None:
    lines = [f"{got.method} {got.uri} HTTP/1.{got.minor}"]
    lines += [f"{name}: {value}" for name, value in got.input_headers]
    got.output_headers.add("Content-Type", "text/plain")
    got.send_reply(200, None, "\n".join(lines).encode())


def stream(got: ServerRequest, arg: object) -> None:
    got.send_reply_start(200)
    for number in range(3):
        got.send_reply_chunk(b"%d," % number)
    got.send_reply_end()


@pytest.fixture
def port(server: HttpServer) -> int:
    port: int = server.bind_socket("127.0.0.1", 0).port
    return port


@pytest.fixture
def curl(base: EventBase, port: int, program: Callable[[str], str]) -> Curl:
    return Curl(base, program("curl"), port)


def test_get(curl: Curl) -> None:
    result = curl(f"{curl.url}/head?a=b", "--user-agent", "judge")
    lines = result.body.decode().split("\n")
    assert lines[0] == "GET /head?a=b HTTP/1.1"
    assert "User-Agent: judge" in lines
    assert result.status == 0


def test_post(curl: Curl) -> None:
    result = curl(f"{curl.url}/echo", "--data-binary", "@-", data=b"some data")
    assert (result.body, result.status) == (b"some data", 0)


@pytest.mark.parametrize("size", [0, 1, len(LARGE)])
def test_chunked_upload(curl: Curl, size: int) -> None:
    result = curl(f"{curl.url}/echo", "--upload-file", "-", data=LARGE[:size])
    assert result.status == 0
    assert result.body == LARGE[:size]


def test_chunked_post(curl: Curl) -> None:
    chunked = ("--header", "Transfer-Encoding: chunked")
    result = curl(f"{curl.url}/echo", *chunked, "--data-binary", "@-", data=LARGE)
    assert result.status == 0
    assert result.body == LARGE


def test_http_1_0(curl: Curl) -> None:
    result = curl("--http1.0", f"{curl.url}/head")
    assert result.body.startswith(b"GET /head HTTP/1.0\n")
    assert result.status == 0


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
def test_a_stream(curl: Curl, version: str) -> None:
    result = curl(version, f"{curl.url}/stream", f"{curl.url}/stream")
    assert (result.body, result.status) == (b"0,1,2,0,1,2,", 0)


def test_head(curl: Curl) -> None:
    whole = curl(f"{curl.url}/head", "--user-agent", "judge")
    result = curl("--head", f"{curl.url}/head", "--user-agent", "judge")
    head = result.body.decode()
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert f"Content-Length: {len(whole.body) + len('HEAD') - len('GET')}\r\n" in head
    assert result.status == 0


def test_two_urls_over_one_connection(curl: Curl, server: HttpServer) -> None:
    write_out = ("--write-out", "%{num_connects}\n", "--output", os.devnull)
    result = curl(*write_out, f"{curl.url}/head", *write_out[2:], f"{curl.url}/stream")
    assert result.body == b"1\n0\n"


def test_expect_with_a_large_body(curl: Curl) -> None:
    expect = ("--header", "Expect: 100-continue", "--expect100-timeout", "60")
    result = curl("--verbose", *expect, f"{curl.url}/echo", "--data-binary", "@-", data=LARGE)
    assert result.status == 0
    assert result.body == LARGE
    assert "< HTTP/1.1 100 Continue" in result.errors


def test_expect_with_a_body_that_is_too_large(curl: Curl) -> None:
    expect = ("--header", "Expect: 100-continue", "--expect100-timeout", "60")
    code = ("--write-out", "%{http_code} %{size_upload}", "--output", os.devnull)
    result = curl(*expect, *code, f"{curl.url}/echo", "--data-binary", "@-", data=LARGE + b"x")
    assert result.body == b"413 0"


@pytest.mark.parametrize(
    ("arguments", "path", "code"),
    [
        ((), "/missing", "404"),
        ((), "/post", "405"),
        (("--request", "FLOOP"), "/echo", "501"),
        (("--header", "Expect: something-else", "--data", "x"), "/echo", "417"),
        (("--header", "X-Long: " + "x" * 4096), "/echo", "431"),
        (("--header", "Host:"), "/echo", "400"),
        (("--data", "x"), "/post", "204"),
    ],
)
def test_statuses(curl: Curl, arguments: tuple[str, ...], path: str, code: str) -> None:
    result = curl(
        *arguments, "--write-out", "%{http_code}", "--output", os.devnull, curl.url + path
    )
    assert (result.body.decode(), result.status) == (code, 0)


@pytest.mark.parametrize("form", [(), ("--header", "Transfer-Encoding: chunked")])
def test_413_arrives_while_curl_is_sending(curl: Curl, form: tuple[str, ...]) -> None:
    code = ("--write-out", "%{http_code}", "--output", os.devnull, "--header", "Expect:")
    result = curl(*code, *form, f"{curl.url}/echo", "--data-binary", "@-", data=LARGE * 3)
    assert result.body == b"413"


def test_a_pipeline_is_answered_in_order(base: EventBase, curl: Curl, port: int) -> None:
    """curl has given pipelining up, so a socket asks here."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"".join(b"GET /head?%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(16)))
        sock.shutdown(socket.SHUT_WR)
        received = bytearray()

        def on_readable(fd: int, what: int, arg: object) -> None:
            data = sock.recv(65536)
            received.extend(data)
            if not data:
                base.loopbreak()

        with Event(base, sock, EV_READ | EV_PERSIST, on_readable) as event:
            event.add()
            base.dispatch()
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 16
    positions = [received.find(b"GET /head?%d HTTP" % n) for n in range(16)]
    assert positions == sorted(positions)
    assert -1 not in positions


def test_over_a_unix_socket(server: HttpServer, curl: Curl, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    server.bind_unix(path)
    result = curl("--unix-socket", str(path), "http://the.host/head")
    assert result.text.startswith("GET /head HTTP/1.1\nHost: the.host\n")


@pytest.mark.parametrize(
    ("target", "seen"),
    [("/head/../head", "/head/../head"), ("/head?a b", None), ("/%2e%2e/head", "/%2e%2e/head")],
)
def test_a_path_as_it_is(server: HttpServer, curl: Curl, target: str, seen: str | None) -> None:
    server.set_gencb(describe)
    result = curl("--path-as-is", "--globoff", curl.url + target)
    if seen is None:
        assert result.status != 0, "curl itself finds it malformed"
    else:
        assert result.text.startswith(f"GET {seen} HTTP/1.1\n")


def test_a_proxy_s_request_line(curl: Curl) -> None:
    """curl takes the server for a proxy, and sends absolute-form (RFC 9112 3.2.2)."""
    result = curl("--proxy", curl.url, "--noproxy", "", "http://elsewhere.example:81/head")
    assert result.text.startswith("GET http://elsewhere.example:81/head HTTP/1.1\n")


def test_a_thousand_urls_over_one_connection(curl: Curl) -> None:
    form = ("--write-out", "\n%{num_connects} %{http_code}\n")
    result = curl("--parallel-max", "1", *form, f"{curl.url}/echo?[1-1000]")
    lines = result.text.split()
    assert lines == ["1", "200"] + ["0", "200"] * 999


def test_parallel_connections(curl: Curl) -> None:
    form = ("--write-out", "%{http_code}\n", "--parallel", "--parallel-immediate")
    result = curl(*form, "--parallel-max", "40", f"{curl.url}/post?[1-200]", "--data", "x")
    assert result.text.split() == ["204"] * 200


@pytest.fixture
def files(server: HttpServer, tmp_path: Path) -> bytes:
    """What `/files/f` holds."""
    content = bytes(range(256)) * 1024
    (tmp_path / "f").write_bytes(content)
    server.serve_directory("/files/", tmp_path)
    return content


@pytest.mark.parametrize(("start", "end"), [(0, 0), (0, 99), (1000, 262143), (262143, 262143)])
def test_a_range(curl: Curl, files: bytes, start: int, end: int) -> None:
    result = curl("--range", f"{start}-{end}", "--fail", f"{curl.url}/files/f")
    assert (result.body, result.status) == (files[start : end + 1], 0)


def test_the_last_bytes(curl: Curl, files: bytes) -> None:
    assert curl("--range", "-10", f"{curl.url}/files/f").body == files[-10:]


def test_two_ranges_come_in_parts(curl: Curl, files: bytes) -> None:
    result = curl("--range", "0-9,100-109", "--include", f"{curl.url}/files/f")
    head, _, body = result.body.partition(b"\r\n\r\n")
    assert b"multipart/byteranges; boundary=" in head
    assert body.count(b"Content-Range: bytes ") == 2
    assert files[:10] in body
    assert files[100:110] in body


def test_an_interrupted_download_goes_on(curl: Curl, files: bytes, tmp_path: Path) -> None:
    target = tmp_path / "half"
    target.write_bytes(files[:100_000])
    result = curl("--continue-at", "-", "--output", str(target), f"{curl.url}/files/f")
    assert result.status == 0
    assert target.read_bytes() == files


def test_a_file_that_is_had_already_is_not_sent(curl: Curl, files: bytes, tmp_path: Path) -> None:
    etag, target = str(tmp_path / "etag"), str(tmp_path / "got")
    form = ("--write-out", "%{http_code} %{size_download}", "--output", target)
    saved = curl("--etag-save", etag, *form, f"{curl.url}/files/f")
    assert saved.text == f"200 {len(files)}"
    assert curl("--etag-compare", etag, *form, f"{curl.url}/files/f").text == "304 0"
    assert curl("--time-cond", target, *form, f"{curl.url}/files/f").text.startswith("304 ")


@pytest.mark.no_cover
@pytest.mark.parametrize(("form", "size"), [("with a length", 1 << 30), ("chunked", 1 << 27)])
def test_a_gibibyte_costs_no_memory(
    server: HttpServer, curl: Curl, form: str, size: int, tmp_path: Path
) -> None:
    """A large file, that takes no room on the disk, goes up as a stream."""
    most, taken = 0, 0

    def take(got: ServerRequest, arg: object) -> None:
        got.set_body_cbs(on_piece, on_end)

    def on_piece(got: ServerRequest, data: bytes, arg: object) -> None:
        nonlocal taken, most
        taken += len(data)
        most = max(most, resident_bytes())

    def on_end(got: ServerRequest, is_whole: bool, arg: object) -> None:
        got.send_reply(200 if is_whole else 400, None, b"%d" % taken)

    server.set_cb("/upload", take, streams=True)
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(size)
    header = () if form == "with a length" else ("--header", "Transfer-Encoding: chunked")
    before = resident_bytes()
    result = curl(*header, "--header", "Expect:", "--upload-file", str(path), f"{curl.url}/upload")
    assert result.text == str(size)
    assert most - before < 16 << 20


def resident_bytes() -> int:
    """The memory of this process that is in use now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_body_that_is_refused_is_not_sent(server: HttpServer, curl: Curl) -> None:
    """The handler refuses by the head; curl would wait a minute for 100 Continue."""
    server.set_cb("/refuses", lambda got, arg: got.send_error(403), streams=True)
    expect = ("--header", "Expect: 100-continue", "--expect100-timeout", "60")
    code = ("--write-out", "%{http_code} %{size_upload}", "--output", os.devnull)
    result = curl(*expect, *code, f"{curl.url}/refuses", "--data-binary", "@-", data=LARGE)
    assert result.text == "403 0"


@pytest.fixture
def pems(tmp_path: Path) -> dict[str, str]:
    """Files of an authority, two servers and a client."""
    authority().cert_pem.write_to_path(tmp_path / "ca.pem")
    found = {"ca": str(tmp_path / "ca.pem")}
    for name in ("one.example", "two.example", "client"):
        subject = "someone@example.org" if name == "client" else name
        found[name] = str(write_pem(issue(subject), tmp_path / f"{name}.pem"))
    return found


def resolved(port: int, *names: str) -> list[str]:
    """Tell curl that these names are at our port."""
    return [word for name in names for word in ("--resolve", f"{name}:{port}:127.0.0.1")]


def test_tls_with_certificates_by_name(
    server: HttpServer, curl: Curl, pems: dict[str, str]
) -> None:
    contexts = TlsContexts(tls.server_context(pems["one.example"]), refuse_unknown=True)
    contexts.add("one.example", contexts.default)
    contexts.add("two.example", tls.server_context(pems["two.example"]))
    port = server.bind_socket("127.0.0.1", 0, tls=contexts).port
    names = ("one.example", "two.example", "three.example")
    form = ("--cacert", pems["ca"], *resolved(port, *names))
    for name in names[:2]:
        result = curl(*form, f"https://{name}:{port}/head")
        assert result.text.startswith(f"GET /head HTTP/1.1\nHost: {name}:{port}\n")
    assert curl(*form, f"https://three.example:{port}/head").status == 35  # no handshake
    assert curl(*form, f"http://one.example:{port}/head").status == 52  # no TLS, no answer


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_tls_carries_large_bodies_both_ways(
    server: HttpServer, curl: Curl, pems: dict[str, str], version: str
) -> None:
    port = server.bind_socket("127.0.0.1", 0, tls=tls.server_context(pems["one.example"])).port
    form = ("--cacert", pems["ca"], *resolved(port, "one.example"))
    form += (f"--tlsv{version}", "--tls-max", version)
    url = f"https://one.example:{port}/echo"
    assert curl(*form, url, "--data-binary", "@-", data=LARGE).body == LARGE
    assert curl(*form, url, "--upload-file", "-", data=LARGE).body == LARGE


def test_tls_that_asks_for_a_certificate(
    server: HttpServer, curl: Curl, pems: dict[str, str]
) -> None:
    def who(got: ServerRequest, arg: object) -> None:
        certificate = got.peer_certificate or {}
        names = [value for kind, value in certificate.get("subjectAltName", ())]
        got.send_reply(200, None, " ".join(names).encode())

    server.set_cb("/who", who)
    context = tls.server_context(pems["one.example"], client_cafile=pems["ca"])
    port = server.bind_socket("127.0.0.1", 0, tls=context).port
    form = ("--cacert", pems["ca"], *resolved(port, "one.example"))
    url = f"https://one.example:{port}/who"
    assert curl(*form, "--cert", pems["client"], url).text == "someone@example.org"
    assert curl(*form, url).status == 56  # TLS 1.3 tells a client so after its handshake
    assert curl(*form, "--tls-max", "1.2", url).status in (35, 56)
