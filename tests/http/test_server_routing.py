"""Who answers: exact paths, prefixes, virtual hosts; and the hooks before and beside answers."""

from __future__ import annotations

from functools import partial

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError, StateError
from evsvc.http import HttpServer
from evsvc.http.server.router import Router
from evsvc.http.server.vhosts import MAX_PATTERN_CHARACTERS, HostTable
from tests.http.peers import request


def named(name: str):
    """Return a callback that answers with `name`."""
    return lambda got, arg: got.send_reply(200, None, name.encode())


class TestPrefixes:
    @pytest.fixture
    def peer(self, serve):
        site = serve(named("general"))
        site.server.set_cb("/a/exact", named("exact"))
        site.server.set_prefix_cb("/a/", named("a"))
        site.server.set_prefix_cb("/a/b/", named("b"))
        return site.connect()

    @pytest.mark.parametrize(
        ("target", "name"),
        [
            ("/a/exact", "exact"),
            ("/a/exact/x", "a"),
            ("/a/", "a"),
            ("/a/x", "a"),
            ("/a/b", "a"),
            ("/a/b/", "b"),
            ("/a/b/c/d?/x/", "b"),
            ("/a%2Fb/c", "b"),
            ("/a", "general"),
            ("/", "general"),
            ("/ab/", "general"),
        ],
    )
    def test_an_exact_path_wins_then_the_longest_prefix(self, peer, target, name) -> None:
        assert peer.get(target).body == name.encode()

    def test_one_that_is_taken_back_leaves_the_shorter_one(self, serve) -> None:
        server = (site := serve(named("general"))).server
        server.set_prefix_cb("/a/", named("a"))
        server.set_prefix_cb("/a/b/", named("b"))
        server.del_prefix_cb("/a/b/")
        assert site.connect().get("/a/b/c").body == b"a"
        server.del_prefix_cb("/a/")
        assert site.connect().get("/a/b/c").body == b"general"
        with pytest.raises(ArgumentError, match="/a/"):
            server.del_prefix_cb("/a/")

    @pytest.mark.parametrize("prefix", ["", "a/", "/a", "*"])
    def test_a_prefix_begins_and_ends_with_a_slash(self, serve, prefix) -> None:
        with pytest.raises(ArgumentError):
            serve().server.set_prefix_cb(prefix, named(""))

    def test_one_prefix_has_one_callback(self, serve) -> None:
        server = serve().server
        server.set_prefix_cb("/a/", named(""))
        with pytest.raises(ArgumentError, match="already"):
            server.set_prefix_cb("/a/", named(""))

    def test_the_root_is_a_prefix_of_all(self, serve) -> None:
        site = serve()
        site.server.set_prefix_cb("/", named("root"))
        assert site.connect().get("/x/y").body == b"root"

    def test_its_methods_hold(self, serve) -> None:
        site = serve()
        site.server.set_prefix_cb("/a/", named("a"), methods=("PUT",))
        reply = site.connect().get("/a/x")
        assert (reply.status, reply.field("Allow")) == (405, "PUT")

    def test_a_look_up_costs_no_more_than_the_slashes_in_the_longest(self) -> None:
        looked = []

        class Noting(dict):
            def get(self, key, default=None):
                looked.append(key)
                return super().get(key, default)

        router = Router()
        for number in range(1000):
            router.add_prefix(f"/{number}/", print, None, None, False)
        router._prefixes = Noting(router._prefixes)

        class Asked:
            path = "/" * 8000

        assert router.find(Asked()) is None
        assert len(looked) <= len("/999/")


@pytest.mark.parametrize("method", ["set_cb", "set_prefix_cb"])
def test_what_is_no_callback_is_refused(serve, method) -> None:
    with pytest.raises(ArgumentTypeError, match="5"):
        getattr(serve().server, method)("/a/", 5)


class Awaited:
    """What is called, and then has to be awaited."""

    async def __call__(self, request: object, arg: object) -> None: ...


@pytest.mark.parametrize("callback", [Awaited(), Awaited().__call__, partial(Awaited.__call__, 1)])
def test_a_coroutine_function_is_told_how_to_become_a_callback(serve, callback) -> None:
    server = serve().server
    for set_it in (partial(server.set_cb, "/a"), partial(server.set_prefix_cb, "/a/")):
        with pytest.raises(ArgumentTypeError, match=r"evsvc\.aio\.handler"):
            set_it(callback)
    with pytest.raises(ArgumentTypeError, match=r"evsvc\.aio\.handler"):
        server.set_gencb(callback)


class TestVirtualHosts:
    @pytest.fixture
    def site(self, base, serve):
        """As in libevent's suite: `foo.com`, `bar.*.foo.com` inside, aliases of both."""
        site = serve(named("main"))
        self.foo, self.bar = HttpServer(base), HttpServer(base)
        self.foo.set_gencb(named("foo"))
        self.bar.set_gencb(named("bar"))
        self.bar.set_cb("/blackcoffee", named("coffee"))
        site.server.add_virtual_host("foo.com", self.foo)
        site.server.add_virtual_host("bar.*.foo.com", self.bar)
        site.server.add_server_alias("manolito.info")
        self.bar.add_server_alias("bonkers.org:8000")
        self.bar.add_server_alias("special.foo.com")
        return site

    @pytest.mark.parametrize(
        ("host", "name"),
        [
            ("foo.com", "foo"),
            ("FOO.com:80", "foo"),
            ("somehost", "main"),
            ("bar.magic.foo.com", "bar"),
            ("bar.a.b.foo.com", "bar"),
            ("bar..foo.com", "bar"),
            ("bar.foo.com", "main"),
            ("manolito.info", "main"),
            ("bonkers.org:8000", "bar"),
            ("bonkers.org", "main"),
            ("special.foo.com:1", "bar"),
        ],
    )
    def test_the_host_that_is_asked_for_decides(self, site, host, name) -> None:
        wire = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        assert site.connect().ask(wire).body == name.encode()

    def test_an_absolute_target_wins_over_the_host_field(self, site) -> None:
        wire = b"GET http://foo.com/ HTTP/1.1\r\nHost: somehost\r\n\r\n"
        assert site.connect().ask(wire).body == b"foo"

    def test_its_callbacks_do_not_fall_back_to_the_servers(self, base, serve) -> None:
        site = serve(named("main"))
        vhost = HttpServer(base)
        vhost.set_cb("/only", named("only"))
        site.server.add_virtual_host("*.com", vhost)
        peer = site.connect()
        assert peer.ask(b"GET /only HTTP/1.1\r\nHost: a.com\r\n\r\n").body == b"only"
        assert peer.ask(b"GET / HTTP/1.1\r\nHost: a.com\r\n\r\n").status == 404

    def test_one_in_another_is_looked_for_there(self, base, serve) -> None:
        site = serve(named("main"))
        outer, inner = HttpServer(base), HttpServer(base)
        outer.set_gencb(named("outer"))
        inner.set_gencb(named("inner"))
        outer.add_virtual_host("www.*", inner)
        site.server.add_virtual_host("*.com", outer)
        peer = site.connect()
        assert peer.ask(b"GET / HTTP/1.1\r\nHost: www.a.com\r\n\r\n").body == b"inner"
        assert peer.ask(b"GET / HTTP/1.1\r\nHost: a.com\r\n\r\n").body == b"outer"
        assert peer.ask(b"GET / HTTP/1.1\r\nHost: www.a.org\r\n\r\n").body == b"main"

    def test_it_can_be_taken_back(self, site) -> None:
        site.server.remove_virtual_host(self.foo)
        assert site.connect().ask(b"GET / HTTP/1.1\r\nHost: foo.com\r\n\r\n").body == b"main"
        with pytest.raises(ArgumentError):
            site.server.remove_virtual_host(self.foo)
        site.server.add_virtual_host("other", self.foo)

    def test_an_alias_can_be_taken_back(self, site) -> None:
        self.bar.remove_server_alias("Special.foo.com")
        wire = b"GET / HTTP/1.1\r\nHost: special.foo.com\r\n\r\n"
        assert site.connect().ask(wire).body == b"main"
        for call in (self.bar.remove_server_alias, self.bar.add_server_alias):
            with pytest.raises(ArgumentError):
                call("bonkers.org:8000" if call == self.bar.add_server_alias else "x")

    def test_what_listens_or_is_one_already_is_refused(self, site, serve) -> None:
        for vhost in (site.server, self.foo, serve().server):
            with pytest.raises(StateError):
                site.server.add_virtual_host("x", vhost)

    @pytest.mark.parametrize("size", [0, MAX_PATTERN_CHARACTERS + 1])
    def test_a_pattern_has_a_length_that_a_name_can_have(self, size) -> None:
        table = HostTable(Router())
        with pytest.raises(ArgumentError):
            table.add("a" * size, HostTable(Router()))
        table.add("a" * MAX_PATTERN_CHARACTERS, HostTable(Router()))

    def test_a_body_that_a_virtual_host_streams(self, site) -> None:
        pieces = []
        self.foo.set_cb(
            "/up", lambda got, arg: got.set_body_cbs(lambda r, d, a: pieces.append(d)), streams=True
        )
        site.server.set_max_body_size(2)
        site.connect().send(b"POST /up HTTP/1.1\r\nHost: foo.com\r\nContent-Length: 5\r\n\r\nhello")
        assert pieces == [b"hello"]


class TestNewRequests:
    def test_the_program_sees_each_before_its_body(self, serve) -> None:
        site = serve(named("ok"))
        seen = []
        site.server.set_newreqcb(lambda got, arg: seen.append((got.uri, arg)), "arg")
        peer = site.connect()
        wire = request("/a", method="POST", body=b"xyz")
        peer.send(wire[:-1])
        assert seen == [("/a", "arg")]
        peer.send(wire[-1:] + request("/b"))
        assert seen == [("/a", "arg"), ("/b", "arg")]

    @pytest.mark.parametrize("verdict", [lambda *args: -1, lambda *args: 1 / 0])
    def test_one_that_is_not_admitted_ends_the_connection(self, serve, verdict, caplog) -> None:
        site = serve(named("ok"))
        site.server.set_newreqcb(verdict)
        peer = site.connect()
        peer.send(request("/") * 2)
        assert peer.read_to_end() == b""
        site.server.set_newreqcb(None)
        assert site.connect().get().status == 200


class TestErrorPages:
    def test_the_program_writes_them(self, serve) -> None:
        def page(got, buffer, code, reason, arg):
            buffer.add_printf("%d %s %s", code, reason, arg)

        site = serve(lambda got, arg: got.send_error(418, "tea"))
        site.server.set_errorcb(page, "arg")
        reply = site.connect().get()
        assert (reply.status, reply.body) == (418, b"418 tea arg")
        site.server.set_gencb(None)
        assert site.connect().get().body == b"404 None arg"

    def test_an_empty_one_is_empty(self, serve) -> None:
        site = serve(lambda got, arg: got.send_error(500))
        site.server.set_errorcb(lambda *args: 0)
        assert site.connect().get().body == b""

    @pytest.mark.parametrize("cb", [lambda *args: -1, lambda *args: 1 / 0])
    def test_else_the_servers_own_is_sent(self, serve, cb, caplog) -> None:
        site = serve(lambda got, arg: got.send_error(503))
        own = site.connect().get().body
        site.server.set_errorcb(cb)
        assert site.connect().get().body == own

    @pytest.mark.parametrize("name", ["set_errorcb", "set_newreqcb"])
    def test_what_is_no_callback_is_refused(self, serve, name) -> None:
        with pytest.raises(ArgumentTypeError, match="5"):
            getattr(serve().server, name)(5)
