"""Static files: what is found, what is not, conditions, ranges, precompressed siblings."""

from __future__ import annotations

import os
import re
from email.utils import formatdate

import pytest

from evsvc.core import ArgumentError
from evsvc.http import DirectoryOptions
from evsvc.http.files.conditions import entity_tags, parse_http_date
from evsvc.http.files.content_types import content_type_of
from evsvc.http.files.ranges import MAX_RANGES, NotSatisfiable, parse_ranges
from evsvc.http.files.tree import MAX_PARTS
from evsvc.http.wire.codings import acceptable
from tests.http.peers import request

MODIFIED = 1_700_000_000


@pytest.fixture
def root(tmp_path):
    """A tree with everything in it that one could ask for, and a secret beside it."""
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    for name, text in {
        "a.txt": b"0123456789",
        "empty": b"",
        "index.html": b"<p>home",
        "sub/page.html": b"<p>page",
        "sub/deep/x.bin": b"x" * 100_000,
        ".hidden": b"hidden",
        "sp ace%.txt": b"odd",
        "app.js": b"plain",
        "app.js.gz": b"gzipped",
        "app.js.br": b"brotli",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
        os.utime(path, (MODIFIED, MODIFIED))
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder-link").symlink_to(tmp_path)
    os.mkfifo(root / "fifo")
    return root


@pytest.fixture
def files(serve, root):
    """Return `files(prefix="/", **options)`: a client of a server of `root`."""

    def start(prefix="/", **options):
        site = serve()
        site.server.serve_directory(prefix, root, DirectoryOptions(**options))
        return site.connect()

    return start


class TestFinding:
    @pytest.mark.parametrize(
        ("target", "body", "content_type"),
        [
            ("/a.txt", b"0123456789", "text/plain; charset=utf-8"),
            ("/a%2etxt?query", b"0123456789", "text/plain; charset=utf-8"),
            ("/empty", b"", "application/octet-stream"),
            ("/", b"<p>home", "text/html; charset=utf-8"),
            ("/sub/page.html", b"<p>page", "text/html; charset=utf-8"),
            ("/sub/deep/x.bin", b"x" * 100_000, "application/octet-stream"),
            ("/sp%20ace%25.txt", b"odd", "text/plain; charset=utf-8"),
            ("http://other/a.txt", b"0123456789", "text/plain; charset=utf-8"),
        ],
    )
    def test_a_file_is_sent_with_its_type(self, files, target, body, content_type) -> None:
        reply = files().ask(request(target))
        assert (reply.status, reply.body) == (200, body)
        assert reply.field("Content-Type") == content_type
        assert reply.field("Last-Modified") == formatdate(MODIFIED, usegmt=True)

    @pytest.mark.parametrize(
        "target",
        [
            "/nothing", "/../secret", "/%2e%2e/secret", "/..%2fsecret", "/%2e%2e%2fsecret",
            "/sub/../../secret", "/sub/..%5c..%5csecret", "//secret", "/sub//page.html", "/./a.txt",
            "/a.txt%00", "/a.txt/", "/a.txt/x", "/.hidden", "/link", "/folder-link/secret",
            "/folder-link/", "/fifo", "/sub/", "/a.txt%00.html", "/%c0%ae%c0%ae/secret",
            "/x" * 4000, "/" + "sub/" * (MAX_PARTS + 1),
        ],
    )  # fmt: skip
    def test_what_is_not_to_be_seen_is_404(self, files, target) -> None:
        assert files().get(target).status == 404

    def test_the_prefix_is_not_in_the_tree(self, files) -> None:
        peer = files("/st%20atic/".replace("%20", " "))
        assert peer.get("/st%20atic/a.txt").body == b"0123456789"
        assert peer.get("/st%20atic%2fa.txt").status == 404

    def test_symbolic_links_are_followed_where_they_are_allowed(self, files) -> None:
        peer = files(follow_symlinks=True)
        assert peer.get("/link").body == b"secret"
        assert peer.get("/folder-link/secret").body == b"secret"

    def test_hidden_names_are_found_where_they_are_allowed(self, files) -> None:
        assert files(hidden=True).get("/.hidden").body == b"hidden"

    def test_a_folder_without_its_slash_is_elsewhere(self, files) -> None:
        reply = files().get("/sub?a=b")
        assert (reply.status, reply.field("Location")) == (301, "/sub/?a=b")
        assert files("/p/").get("/p//sub").status == 404

    def test_no_redirect_names_another_host(self, files) -> None:
        reply = files().get("//sub")
        assert reply.status == 404 or not reply.field("Location").startswith("//")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
    def test_other_methods_are_405(self, files, method) -> None:
        reply = files().ask(request("/a.txt", method=method))
        assert (reply.status, reply.field("Allow")) == (405, "GET, HEAD")

    def test_head_is_what_get_says_without_the_body(self, files) -> None:
        peer = files()
        head = peer.ask(request("/a.txt", method="HEAD"), has_body=False)
        whole = peer.get("/a.txt")
        assert (head.status, head.field("Content-Length")) == (200, "10")
        assert [field for field in head.fields if field[0] != "Date"] == [
            field for field in whole.fields if field[0] != "Date"
        ]

    def test_a_closed_tree_finds_nothing(self, serve, root) -> None:
        site = serve()
        handler = site.server.serve_directory("/", root)
        handler.close()
        handler.close()
        assert site.connect().get("/a.txt").status == 404

    def test_what_is_no_directory_is_refused(self, serve, root) -> None:
        server = serve().server
        with pytest.raises(NotADirectoryError):
            server.serve_directory("/", root / "a.txt")
        with pytest.raises(FileNotFoundError):
            server.serve_directory("/", root / "nothing")

    def test_no_descriptor_stays_open(self, files) -> None:
        peer = files(listing=True, precompressed=("gzip",))
        peer.get("/a.txt")
        before = len(os.listdir("/proc/self/fd"))
        for target in ("/a.txt", "/nothing", "/sub", "/sub/", "/", "/link", "/fifo", "/app.js"):
            for line in ("Range: bytes=0-1,3-4", "If-None-Match: *", "Accept-Encoding: gzip"):
                peer.get(target, line)
                peer.ask(request(target, line, method="HEAD"), has_body=False)
        peer.settle()
        assert len(os.listdir("/proc/self/fd")) == before


class TestListing:
    def test_a_folder_shows_its_names_where_it_is_asked_for(self, files) -> None:
        reply = files(listing=True, index=None).get("/")
        assert reply.field("Content-Type") == "text/html; charset=utf-8"
        hrefs = re.findall(r'href="([^"]*)"', reply.body.decode())
        assert {"./a.txt", "./sub/", "./sp%20ace%25.txt"} <= set(hrefs)
        assert "./.hidden" not in hrefs

    def test_names_are_escaped(self, files, root) -> None:
        (root / "<b>&\xe9").write_bytes(b"")
        page = files(listing=True, index=None).get("/").body.decode()
        assert "&lt;b&gt;&amp;\xe9" in page
        assert "<b>" not in page


class TestConditions:
    @pytest.fixture
    def etag(self, files):
        return files().get("/a.txt").field("ETag")

    @pytest.mark.parametrize(
        ("lines", "status"),
        [
            (["If-None-Match: {etag}"], 304),
            (["If-None-Match: W/{etag}"], 304),
            (['If-None-Match: "x", {etag}'], 304),
            (['If-None-Match: "x"', "If-None-Match: {etag}"], 304),
            (["If-None-Match: *"], 304),
            (['If-None-Match: "x"'], 200),
            (["If-None-Match: {etag} x"], 200),
            (["If-Modified-Since: {date}"], 304),
            (["If-Modified-Since: {later}"], 304),
            (["If-Modified-Since: {earlier}"], 200),
            (["If-Modified-Since: nonsense"], 200),
            (['If-None-Match: "x"', "If-Modified-Since: {date}"], 200),
            (["If-Match: {etag}"], 200),
            (["If-Match: *"], 200),
            (['If-Match: "x"'], 412),
            (["If-Match: W/{etag}"], 412),
            (["If-Unmodified-Since: {date}"], 200),
            (["If-Unmodified-Since: {earlier}"], 412),
            (["If-Match: {etag}", "If-Unmodified-Since: {earlier}"], 200),
        ],
    )
    def test_they_decide_the_status(self, files, etag, lines, status) -> None:
        names = {
            "etag": etag,
            "date": formatdate(MODIFIED, usegmt=True),
            "earlier": formatdate(MODIFIED - 1, usegmt=True),
            "later": formatdate(MODIFIED + 1, usegmt=True),
        }
        wire = request("/a.txt", *(line.format(**names) for line in lines))
        reply = files().ask(wire, has_body=status != 304)
        assert reply.status == status
        if status == 304:
            assert reply.field("ETag") == etag

    def test_another_content_has_another_tag(self, files, etag, root) -> None:
        (root / "a.txt").write_bytes(b"012345678X")
        assert files().get("/a.txt").field("ETag") != etag

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
            ("Sun Nov  6 08:49:37 1994", 784111777),
            ("", None),
            ("yesterday", None),
            (None, None),
        ],
    )
    def test_all_three_forms_of_a_date_are_read(self, text, seconds) -> None:
        assert parse_http_date(text) == seconds

    @pytest.mark.parametrize(
        ("values", "tags"),
        [
            (["*"], None),
            (['"a"'], ['"a"']),
            (['W/"a" , "b"', '"c"'], ['W/"a"', '"b"', '"c"']),
            (["a"], []),
            (['"a" "b"'], []),
        ],
    )
    def test_lists_of_tags(self, values, tags) -> None:
        assert entity_tags(values) == tags


class TestRanges:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (None, None), ("bytes=0-0", [(0, 1)]), ("bytes=2-", [(2, 10)]), ("bytes=-3", [(7, 10)]),
            ("bytes=0-99", None), ("bytes=-99", None), ("bytes=5-99", [(5, 10)]),
            ("Bytes = 1-2", [(1, 3)]), ("bytes=0-1,4-5", [(0, 2), (4, 6)]),
            ("bytes=4-5,0-1", [(4, 6), (0, 2)]), ("bytes=0-3,2-5", [(0, 6)]),
            ("bytes=0-1,2-3", [(0, 4)]), ("bytes=0-1, ,20-30", [(0, 2)]), ("bytes=3-2", None),
            ("bytes=a-b", None), ("bytes=", None), ("bytes", None), ("lines=1-2", None),
            ("bytes=1-2-3", None), ("bytes=0-0,2-2,1-1", [(0, 3)]),
        ],
    )  # fmt: skip
    def test_what_is_asked_for(self, value, expected) -> None:
        assert parse_ranges(value, 10) == expected

    @pytest.mark.parametrize("value", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=11-12,20-"])
    def test_what_is_not_there(self, value) -> None:
        with pytest.raises(NotSatisfiable):
            parse_ranges(value, 10)

    def test_too_many_are_the_whole(self) -> None:
        specs = [f"{2 * number}-{2 * number}" for number in range(MAX_RANGES + 1)]
        assert parse_ranges("bytes=" + ",".join(specs), 1000) is None
        assert len(parse_ranges("bytes=" + ",".join(specs[:-1]), 1000)) == MAX_RANGES

    def test_one_is_206_with_its_place(self, files) -> None:
        reply = files().get("/a.txt", "Range: bytes=2-4")
        assert (reply.status, reply.body) == (206, b"234")
        assert reply.field("Content-Range") == "bytes 2-4/10"
        assert files().get("/a.txt").field("Accept-Ranges") == "bytes"

    def test_several_are_a_multipart_body(self, files) -> None:
        reply = files().get("/a.txt", "Range: bytes=0-1,8-")
        assert reply.status == 206
        boundary = reply.field("Content-Type").partition("boundary=")[2]
        parts = reply.body.split(b"--" + boundary.encode())
        assert parts[-1] == b"--\r\n"
        assert [part.partition(b"\r\n\r\n")[2] for part in parts[1:-1]] == [b"01\r\n", b"89\r\n"]
        assert b"Content-Range: bytes 8-9/10" in parts[2]

    def test_none_is_416(self, files) -> None:
        reply = files().get("/a.txt", "Range: bytes=10-")
        assert (reply.status, reply.field("Content-Range")) == (416, "bytes */10")

    def test_head_knows_no_ranges(self, files) -> None:
        wire = request("/a.txt", "Range: bytes=0-1", method="HEAD")
        assert files().ask(wire, has_body=False).status == 200

    def test_if_range_decides(self, files) -> None:
        peer = files()
        etag = peer.get("/a.txt").field("ETag")
        date = formatdate(MODIFIED, usegmt=True)
        for condition, status in ((etag, 206), (date, 206), ('"x"', 200), (f"W/{etag}", 200)):
            reply = peer.get("/a.txt", "Range: bytes=0-1", f"If-Range: {condition}")
            assert reply.status == status


class TestPrecompressed:
    @pytest.mark.parametrize(
        ("accept", "body", "coding"),
        [
            ("gzip", b"gzipped", "gzip"),
            ("gzip, br", b"brotli", "br"),
            ("br;q=0.5, gzip", b"gzipped", "gzip"),
            ("br;q=0, gzip;q=0", b"plain", None),
            ("zstd", b"plain", None),
            ("identity", b"plain", None),
            ("*", b"brotli", "br"),
        ],
    )
    def test_a_sibling_goes_to_who_takes_it(self, files, accept, body, coding) -> None:
        peer = files(precompressed=("br", "zstd", "gzip"))
        reply = peer.get("/app.js", f"Accept-Encoding: {accept}")
        assert (reply.body, reply.field("Content-Encoding")) == (body, coding)
        assert reply.field("Vary") == "Accept-Encoding"
        assert reply.field("Content-Type") == "text/javascript; charset=utf-8"

    def test_without_the_field_it_is_plain(self, files) -> None:
        assert files(precompressed=("gzip",)).get("/app.js").body == b"plain"

    def test_an_unknown_coding_is_refused(self) -> None:
        with pytest.raises(ArgumentError, match="lzma"):
            DirectoryOptions(precompressed=("lzma",))

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([], []), (["gzip;q=1.0", "br"], ["br", "gzip"]), (["gzip;q=2"], []),
            (["x-gzip"], ["gzip"]), (["*;q=0.1, br;q=0"], ["gzip"]), ([";;,"], []),
            (["GZIP"], ["gzip"]),
        ],
    )  # fmt: skip
    def test_negotiation(self, values, expected) -> None:
        assert acceptable(values, ("br", "gzip")) == expected


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.html", "text/html; charset=utf-8"),
        ("a.PNG", "image/png"),
        ("a.tar.gz", "application/gzip"),
        ("a", "application/octet-stream"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.svg", "image/svg+xml"),
        ("a.json", "application/json"),
        ("a.wasm", "application/wasm"),
    ],
)
def test_types_by_name(name, kind) -> None:
    assert content_type_of(name) == kind


def test_a_file_that_shrinks_breaks_that_reply_only(serve, root) -> None:
    site = serve()
    big = root / "big"
    with big.open("wb") as file:
        file.truncate(8 << 20)
    site.server.serve_directory("/", root)
    peer, other = site.connect(receive_bytes=4096), site.connect()
    peer.send(request("/big"))
    os.truncate(big, 100)
    assert peer.read_to_end().startswith(b"HTTP/1.1 200 ")
    assert other.get("/a.txt").body == b"0123456789"
