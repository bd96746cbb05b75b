"""Static files: what is found, what is not, conditions, ranges, precompressed siblings."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import socket
import time
from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evsvc.core import ArgumentError
from evsvc.http import DirectoryOptions
from evsvc.http.files.conditions import entity_tags, parse_http_date
from evsvc.http.files.content_types import content_type_of
from evsvc.http.files.handler import SMALL_BYTES
from evsvc.http.files.ranges import MAX_RANGES, NotSatisfiable, parse_ranges
from evsvc.http.files.tree import MAX_LINKS, MAX_PARTS, OpenFile
from evsvc.http.wire.codings import acceptable
from tests.core.flat_memory import GIB, reads_memory, resident_bytes
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
    (root / "device").symlink_to("/dev/zero")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(root / "socket"))
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
            "/folder-link/", "/fifo", "/device", "/socket", "/sub/", "/fifo/", "/fifo/x",
            "/a.txt%00.html", "/%c0%ae%c0%ae/secret",
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

    def test_no_link_makes_a_device_a_file(self, files) -> None:
        assert files(follow_symlinks=True).get("/device").status == 404
        assert files(follow_symlinks="within").get("/device").status == 404

    @pytest.mark.parametrize(
        ("name", "target", "body"),
        [
            ("there", "a.txt", b"0123456789"),
            ("there", "sub/../a.txt", b"0123456789"),
            ("there", "./sub//page.html", b"<p>page"),
            ("there", ".hidden", b"hidden"),
            ("there", "{root}/a.txt", b"0123456789"),
            ("sub/there", "../a.txt", b"0123456789"),
            ("sub/there", "deep", None),
            ("there", "../secret", None),
            ("there", "sub/../../secret", None),
            ("there", "../root/a.txt", None),
            ("there", "{root}/../secret", None),
            ("there", "{root}x", None),
            ("there", "/", None),
            ("there", "link", None),
            ("there", "folder-link/secret", None),
            ("there", "there", None),
            ("there", "fifo", None),
            ("there", "a.txt/", None),
            ("there", "a.txt/x", None),
            ("there", "nothing", None),
            ("there", "sub/" * 1000, None),
        ],
    )
    def test_links_may_be_followed_within_the_tree(self, files, root, name, target, body) -> None:
        (root / name).symlink_to(target.format(root=root))
        reply = files(follow_symlinks="within").get("/" + name)
        if body is None:
            assert reply.status in (301, 404)
            assert b"secret" not in reply.body
        else:
            assert (reply.status, reply.body) == (200, body)
        assert files().get("/" + name).status == 404

    def test_folders_behind_links_are_folders(self, files, root) -> None:
        (root / "other").symlink_to("sub/deep")
        (root / "home").symlink_to(root)
        (root / "elsewhere").symlink_to("..")
        peer = files(follow_symlinks="within", listing=True)
        assert peer.get("/other/x.bin").body == b"x" * 100_000
        assert peer.get("/home/home/a.txt").body == b"0123456789"
        assert peer.get("/other/../a.txt").status == 404
        assert peer.get("/elsewhere/secret").status == 404
        assert b"x.bin" in peer.get("/other/").body

    @pytest.mark.parametrize(("count", "status"), [(MAX_LINKS, 200), (MAX_LINKS + 1, 404)])
    def test_a_path_leads_over_so_many_links(self, files, root, count, status) -> None:
        (root / "l0").symlink_to("a.txt")
        for number in range(1, count):
            (root / f"l{number}").symlink_to(f"l{number - 1}")
        assert files(follow_symlinks="within").get(f"/l{count - 1}").status == status

    def test_another_way_to_follow_links_is_refused(self, serve, root) -> None:
        with pytest.raises(ArgumentError, match="sometimes"):
            serve().server.serve_directory("/", root, DirectoryOptions(follow_symlinks="sometimes"))

    @pytest.mark.parametrize(("depth", "status"), [(MAX_PARTS, 200), (MAX_PARTS + 1, 404)])
    @pytest.mark.parametrize("follow", [False, "within"])
    def test_a_path_is_so_deep_at_most(self, files, root, depth, status, follow) -> None:
        folder = root / "/".join("d" * (depth - 1))
        folder.mkdir(parents=True)
        (folder / "x").write_bytes(b"deep")
        target = "/" + "d/" * (depth - 1) + "x"
        assert files(follow_symlinks=follow).get(target).status == status

    def test_who_waits_at_a_fifo_is_not_woken(self, files, root) -> None:
        peer = files(follow_symlinks=True)
        assert peer.get("/fifo").status == 404
        with pytest.raises(OSError, match="No such device") as raised:  # nobody has opened it
            os.open(root / "fifo", os.O_WRONLY | os.O_NONBLOCK)
        assert raised.value.errno == errno.ENXIO

    def test_without_descriptors_it_is_503(self, files, caplog) -> None:
        peer = files()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with open(os.devnull, "rb") as free:
            lowest = free.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
        try:
            peer.send(request("/a.txt") + request("/sub/deep/x.bin"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for _ in range(2):
            reply = peer.read_message()
            assert (reply.status, reply.field("Retry-After")) == (503, "1")
        assert peer.get("/a.txt").body == b"0123456789"

    def test_many_small_files_at_once_hold_no_descriptors(self, files) -> None:
        peer = files()
        peer.get("/a.txt")
        before = len(os.listdir("/proc/self/fd"))
        most = []
        read = OpenFile.read

        def watched(file) -> bytes:
            most.append(len(os.listdir("/proc/self/fd")))
            return read(file)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(OpenFile, "read", watched)
            peer.send(request("/a.txt") * 500)
        assert len(most) == 500
        assert max(most) <= before + 2
        for _ in range(500):
            assert peer.read_message().body == b"0123456789"

    def test_a_client_that_leaves_lets_go_of_the_file(self, serve, root) -> None:
        site = serve()
        with (root / "big").open("wb") as file:
            file.truncate(64 << 20)
        site.server.serve_directory("/", root)
        before = len(os.listdir("/proc/self/fd"))
        peer = site.connect(receive_bytes=4096)
        peer.send(request("/big"))
        peer.reset()
        site.connect().close()
        peer.settle()
        assert len(os.listdir("/proc/self/fd")) == before

    def test_hidden_names_are_found_where_they_are_allowed(self, files, root) -> None:
        (root / ".well-known").mkdir()
        (root / ".well-known" / "x").write_bytes(b"known")
        assert files(hidden=True).get("/.hidden").body == b"hidden"
        some = files(hidden=(".well-known",))
        assert some.get("/.well-known/x").body == b"known"
        assert some.get("/.hidden").status == 404
        with pytest.raises(ArgumentError, match=r"\.hidden"):
            DirectoryOptions(hidden=".hidden")

    @pytest.mark.parametrize("size", [SMALL_BYTES - 1, SMALL_BYTES, SMALL_BYTES + 1])
    def test_small_and_large_files_are_sent_alike(self, files, root, size) -> None:
        (root / "x").write_bytes(os.urandom(size))
        assert files().get("/x").body == (root / "x").read_bytes()

    def test_types_may_be_given(self, files, root) -> None:
        (root / "x.LOG").write_bytes(b"log")
        peer = files(content_types={".log": "text/plain; charset=latin-1"})
        assert peer.get("/x.LOG").field("Content-Type") == "text/plain; charset=latin-1"
        assert peer.get("/app.js").field("Content-Type") == "text/javascript; charset=utf-8"

    def test_caches_are_told_by_option(self, files) -> None:
        peer = files(cache_control="max-age=60")
        tag = peer.get("/a.txt").field("ETag")
        for lines in ((), ("Range: bytes=1-2",), (f"If-None-Match: {tag}",)):
            reply = peer.ask(request("/a.txt", *lines), has_body="If-None" not in str(lines))
            assert reply.field("Cache-Control") == "max-age=60"
        assert peer.get("/nothing").field("Cache-Control") is None
        assert files().get("/a.txt").field("Cache-Control") is None

    @pytest.mark.parametrize(
        "options",
        [
            {"cache_control": "a\nb"},
            {"index": "a/b"},
            {"index": ".."},
            {"index": ""},
            {"content_types": {"log": "text/plain"}},
            {"content_types": {".LOG": "text/plain"}},
            {"content_types": {".log": "text\r\n"}},
        ],
    )
    def test_what_is_no_option_is_refused(self, options) -> None:
        with pytest.raises(ArgumentError):
            DirectoryOptions(**options)

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

    def test_only_what_can_be_had_is_listed(self, files) -> None:
        def names(**options):
            page = files(listing=True, index=None, **options).get("/").body.decode()
            return set(re.findall(r'href="\./([^"]*)"', page))

        plain = names()
        assert {"a.txt", "sub/"} <= plain
        assert not plain & {"fifo", "socket", "device", "link", "folder-link", ".hidden", "../"}
        assert {"link", "folder-link/"} <= names(follow_symlinks=True)
        assert ".hidden" in names(hidden=True)

    def test_a_folder_leads_back_to_the_one_above_it(self, files) -> None:
        peer = files(prefix="/p/", listing=True, index=None)
        assert b'href="../"' in peer.get("/p/sub/").body
        assert b'href="../"' not in peer.get("/p/").body

    @pytest.mark.parametrize("limit", [2, 3])
    def test_so_many_names_are_shown(self, files, root, monkeypatch, limit) -> None:
        monkeypatch.setattr("evsvc.http.files.handler.MAX_LISTED", limit)
        for number in range(3):
            (root / "sub" / "deep" / str(number)).touch()
        page = files(listing=True).get("/sub/deep/").body
        assert page.count(b'href="./') == limit


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
            ("Sun, 06 Nov 1994 08:49:60 GMT", 784111799),
            ("Sun, 06 Nov 1994 08:49:61 GMT", None),
            ("Sun, 31 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 +0200", None),
            ("Sun, 06 Nov 1994 08:49:37 GMT; length=10", None),
            ("sun, 06 nov 1994 08:49:37 gmt", None),
            ("Sun, 06 Nov 0000 08:49:37 GMT", None),
            ("Sunday, 06-Nov-99 08:49:37 GMT", 941878177),
            (None, None),
        ],
    )
    @pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles"])
    def test_all_three_forms_of_a_date_are_read(self, monkeypatch, text, seconds, zone) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        try:
            assert parse_http_date(text) == seconds
        finally:
            monkeypatch.undo()
            time.tzset()

    @pytest.mark.parametrize(("ahead", "means"), [(0, 0), (50, 50), (51, -49), (99, -1)])
    @pytest.mark.parametrize("this_year", [2026, 2060, 2099, 2100])
    def test_two_digits_are_a_year_near_by(self, monkeypatch, this_year, ahead, means) -> None:
        monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((this_year,) + (0,) * 8))
        seconds = parse_http_date(f"Sunday, 06-Nov-{(this_year + ahead) % 100:02} 08:49:37 GMT")
        assert datetime.fromtimestamp(seconds, UTC).year == this_year + means

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

    def test_a_date_of_this_second_is_not_sure_enough(self, files, root, monkeypatch) -> None:
        peer = files()
        date = formatdate(MODIFIED, usegmt=True)
        for age, status in ((0.0, 200), (0.9, 200), (1.0, 206)):
            monkeypatch.setattr(time, "time", lambda age=age: MODIFIED + age)
            assert peer.get("/a.txt", "Range: bytes=0-1", f"If-Range: {date}").status == status

    def test_of_several_only_those_that_are_there_are_sent(self, files) -> None:
        reply = files().get("/a.txt", "Range: bytes=8-20,30-40")
        assert (reply.status, reply.body) == (206, b"89")

    def test_of_a_large_file_they_are_sent_from_where_they_lie(self, files, root) -> None:
        data = os.urandom(300_000)
        (root / "x").write_bytes(data)
        reply = files().get("/x", "Range: bytes=0-0,100000-299999")
        assert data[:1] in reply.body
        assert data[100_000:] in reply.body


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

    def test_each_has_a_tag_of_its_own(self, files, root) -> None:
        (root / "app.js.gz").write_bytes(b"PLAIN")
        os.utime(root / "app.js.gz", (MODIFIED, MODIFIED))
        peer = files(precompressed=("gzip",))
        plain = peer.get("/app.js").field("ETag")
        packed = peer.get("/app.js", "Accept-Encoding: gzip").field("ETag")
        assert plain != packed
        lines = ("Accept-Encoding: gzip", f"If-None-Match: {packed}")
        reply = peer.ask(request("/app.js", *lines), has_body=False)
        assert (reply.status, reply.field("Vary")) == (304, "Accept-Encoding")
        assert peer.get("/app.js", "Accept-Encoding: gzip", f"If-None-Match: {plain}").status == 200

    def test_a_range_is_of_what_is_sent(self, files) -> None:
        lines = ("Accept-Encoding: gzip", "Range: bytes=0-1")
        assert files(precompressed=("gzip",)).get("/app.js", *lines).body == b"gz"

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


def test_a_small_file_that_shrinks_is_500(files, monkeypatch, caplog) -> None:
    peer = files()
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, size // 2, at))
    assert peer.get("/a.txt").status == 500
    monkeypatch.undo()
    assert peer.get("/a.txt").status == 200


PARTS = [
    "", ".", "..", "%2e%2e", "..%2f..", "%2e%2e%5c", "\\", "a.txt", "sub", "deep", "x.bin", "link",
    "folder-link", "secret", "fifo", ".hidden", "%00", "%ff", "app.js", "index.html", "%", "up",
    "in",
]  # fmt: skip


@pytest.mark.no_cover
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.sampled_from(PARTS), max_size=6), data=st.data())
def test_no_path_leads_out_or_fails(walkers, parts, data) -> None:
    peer = data.draw(st.sampled_from(walkers))
    target = "/" + "/".join(parts)
    reply = peer.get(target)
    assert reply.status in (200, 301, 400, 404)
    assert reply.body not in (b"secret", b"hidden")
    if reply.status == 301:
        assert not reply.field("Location").startswith("//")


@pytest.fixture
def walkers(files, root):
    """Clients of the tree, without links and with those that stay in it."""
    (root / "up").symlink_to("..")
    (root / "in").symlink_to("sub")
    (root / "sub" / "up").symlink_to("../sub/../..")
    how = {"listing": True, "precompressed": ("gzip",)}
    return [files(**how), files(follow_symlinks="within", **how)]


@reads_memory
def test_a_file_of_1_gib_costs_no_memory(serve, root) -> None:
    site = serve()
    with (root / "big").open("wb") as file:
        file.truncate(GIB)
    site.server.serve_directory("/", root)
    peer = site.connect()
    peer.send(request("/big"))
    assert dict(peer.read_head()[1])["Content-Length"] == str(GIB)
    left = GIB - len(peer.received)
    before = resident_bytes()
    memory = memoryview(bytearray(1 << 20))
    while left:
        peer.turn()
        with contextlib.suppress(BlockingIOError):
            left -= peer.sock.recv_into(memory, 0, socket.MSG_TRUNC)  # it is not even copied
    assert resident_bytes() - before < 16 << 20
