"""HTTPS: by a context, by names, with clients' certificates, and what goes wrong with it."""

from __future__ import annotations

import logging
import socket
import ssl

import pytest

from evsvc.core import EVLOOP_NONBLOCK, ArgumentError, ArgumentTypeError, SocketError, tls
from evsvc.http import HttpServer, TlsContexts
from tests.core.tls_ends import (
    HOST,
    client_context_for,
    contexts,
    issue,
    server_context_for,
    write_pem,
)
from tests.http.conftest import echo
from tests.http.peers import Peer, request
from tests.http.tls_peers import TlsSocket, tls_peer

OTHER = "other.example"


@pytest.fixture
def secure(serve):
    """Return `secure(tls, cb=echo, **options)`: a site whose one port speaks TLS."""

    def start(context, cb=echo, **options):
        site = serve(cb, **options)
        site.bound.close()
        site.bound = site.server.bind_socket("127.0.0.1", 0, tls=context)
        return site

    return start


@pytest.fixture
def connect_tls(base):
    """Return `connect_tls(site, context=..., name=HOST)`: a client that has shaken hands."""
    made = []

    def connect(site, context=None, name: str | None = HOST) -> Peer:
        made.append(tls_peer(base, site.bound.port, context or contexts()[0], name))
        made[-1].settle()
        return made[-1]

    yield connect
    for peer in made:
        peer.close()


def shown_to(peer: Peer) -> set[str]:
    """The names of the certificate that a client was shown."""
    names = peer.sock.ssl.getpeercert()["subjectAltName"]
    return {name for kind, name in names if kind == "DNS"}


class TestOnePort:
    def test_requests_are_answered(self, secure, connect_tls) -> None:
        peer = connect_tls(secure(contexts()[1]))
        for number in range(3):
            assert peer.get(f"/{number}").body == f"GET /{number} 1 0 ".encode()

    def test_pipelined_requests_and_one_in_single_bytes(self, secure, connect_tls) -> None:
        peer = connect_tls(secure(contexts()[1]))
        peer.send(request("/a") + request("/b"))
        assert peer.read_message().body == b"GET /a 1 0 "
        assert peer.read_message().body == b"GET /b 1 0 "
        peer.send_bytewise(request("/c"))
        assert peer.read_message().body == b"GET /c 1 0 "

    def test_a_large_body_comes_back_whole(self, secure, connect_tls) -> None:
        body = bytes(range(256)) * 4096
        site = secure(contexts()[1], lambda got, arg: got.send_reply(200, None, got.input_buffer))
        peer = connect_tls(site)
        assert peer.ask(request("/", method="POST", body=body)).body == body

    def test_plain_and_tls_side_by_side_share_the_handlers(self, serve, base) -> None:
        site = serve(echo)
        bound = site.server.bind_socket("127.0.0.1", 0, tls=contexts()[1])
        peer = tls_peer(base, bound.port, contexts()[0])
        assert peer.get("/tls").body == b"GET /tls 1 0 "
        assert site.connect().get("/plain").body == b"GET /plain 1 0 "
        peer.close()

    def test_the_servers_context_is_for_all_that_do_not_say_otherwise(self, base, serve) -> None:
        site = serve(echo)
        site.server.set_tls(contexts()[1])
        peer = tls_peer(base, site.bound.port, contexts()[0])
        assert peer.get().status == 200
        site.bound.set_tls(False)
        assert site.connect().get().status == 200
        site.bound.set_tls(None)
        site.server.set_tls(None)
        assert site.connect().get().status == 200
        peer.close()

    def test_a_listening_socket_and_a_listener_may_speak_it(self, base, serve) -> None:
        site = serve(echo)
        listening = socket.create_server(("127.0.0.1", 0))
        bound = site.server.accept_socket(listening, tls=contexts()[1])
        peer = tls_peer(base, bound.port, contexts()[0])
        assert peer.get().status == 200
        peer.close()

    @pytest.mark.parametrize("wrong", [True, 5, "cert.pem"])
    def test_what_is_no_context_is_refused_at_the_call(self, serve, wrong) -> None:
        site = serve()
        before = len(site.server.bound_sockets)
        with pytest.raises(ArgumentTypeError):
            site.server.bind_socket("127.0.0.1", 0, tls=wrong)
        with pytest.raises(ArgumentTypeError):
            site.server.set_tls(wrong)
        assert len(site.server.bound_sockets) == before

    def test_a_context_for_clients_is_refused_at_the_call(self, serve) -> None:
        with pytest.raises(ArgumentError):
            serve().server.bind_socket("127.0.0.1", 0, tls=contexts()[0])


class TestEnds:
    def test_the_last_reply_ends_with_a_goodbye(self, secure, connect_tls) -> None:
        """No client can mistake a cut for the end; and TCP's end comes after the client's."""
        site = secure(contexts()[1])
        peer = connect_tls(site)
        peer.send(request("/", "Connection: close"))
        assert peer.read_to_end().endswith(b"GET / 1 0 ")
        peer.sock.say_goodbye(site.base)
        peer.settle()
        assert site.server.connection_count == 0

    def test_a_client_that_said_goodbye_gets_its_answer_and_ours(self, secure, connect_tls) -> None:
        held = []
        site = secure(contexts()[1], lambda got, arg: held.append(got))
        peer = connect_tls(site)
        peer.send(request("/"))
        with pytest.raises(ssl.SSLWantReadError):
            peer.sock.ssl.unwrap()
        peer.settle()
        (got,) = held
        assert got.connection.peer_is_done
        got.send_reply(200, None, b"late")
        peer.settle()
        peer.close()
        peer.settle()
        assert site.server.connection_count == 0

    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_a_client_that_only_closes_is_no_failure_worth_a_word(
        self, secure, connect_tls, caplog, how
    ) -> None:
        site = secure(contexts()[1])
        peer = connect_tls(site)
        assert peer.get().status == 200
        with caplog.at_level(logging.WARNING):
            if how == "close":
                peer.sock.ssl.close()
            else:
                peer.reset()
            for _ in range(12):
                site.base.loop(EVLOOP_NONBLOCK)
        assert site.server.connection_count == 0
        assert caplog.records == []

    def test_a_stream_that_breaks_off_ends_without_a_goodbye(self, secure, connect_tls) -> None:
        def answer(got, arg):
            got.send_reply_start(200)
            got.send_reply_chunk(b"part")
            raise ValueError("broken")

        site = secure(contexts()[1], answer)
        peer = connect_tls(site)
        peer.sock.ssl.suppress_ragged_eofs = False
        peer.sock.send(request("/"))
        with pytest.raises(ssl.SSLError):
            peer.read_to_end()

    def test_a_refusal_reaches_a_client_that_sends_on(self, secure, connect_tls) -> None:
        peer = connect_tls(secure(contexts()[1], max_body_bytes=10))
        peer.send(request("/", "Content-Length: 1000000", method="POST"))
        for _ in range(20):
            peer.send(b"x" * 10_000)
        assert peer.read_message().status == 413


class TestHandshake:
    def test_one_that_takes_too_long_ends_its_connection(self, secure, clock, base, caplog) -> None:
        site = secure(contexts()[1], handshake_s=3.0)
        peer = site.connect()
        clock.advance(2.9)
        assert peer.is_open()
        assert site.server.connection_count == 1
        with caplog.at_level(logging.INFO, logger="evsvc.http"):
            clock.advance(0.1)
            assert peer.read_to_end() == b""
        assert site.server.connection_count == 0
        (record,) = caplog.records
        assert record.getMessage().endswith("TLS ends: its time is over")

    def test_after_it_the_connection_is_idle_as_long_as_any(
        self, secure, connect_tls, clock
    ) -> None:
        site = secure(contexts()[1], handshake_s=3.0, idle_s=7.0)
        peer = connect_tls(site)
        clock.advance(6.9)
        assert peer.is_open()
        clock.advance(0.1)
        peer.settle()
        assert site.server.connection_count == 1  # it waits for the client's goodbye
        clock.advance(2.1)
        peer.settle()
        assert site.server.connection_count == 0

    def test_it_counts_among_the_connections(self, secure) -> None:
        site = secure(contexts()[1], max_connections=1)
        site.connect()
        assert site.server.connection_count == 1

    def test_who_is_too_many_is_told_so_behind_it(self, secure, connect_tls) -> None:
        site = secure(contexts()[1], max_connections=1)
        site.connect()
        assert connect_tls(site).read_message().status == 503

    def test_plain_http_on_the_port_is_logged_and_closed(self, secure, caplog) -> None:
        site = secure(contexts()[1])
        peer = site.connect()
        with caplog.at_level(logging.INFO, logger="evsvc.http"):
            peer.send(request("/"))
            peer.read_to_end()
        (record,) = caplog.records
        assert "HTTP_REQUEST" in record.getMessage()
        assert site.server.connection_count == 0

    def test_a_client_that_does_not_trust_us_ends_its_own_connection(
        self, base, secure, caplog
    ) -> None:
        site = secure(contexts()[1])
        with caplog.at_level(logging.INFO, logger="evsvc.http"):
            with pytest.raises(ssl.SSLCertVerificationError):
                tls_peer(base, site.bound.port, ssl.create_default_context())
            for _ in range(12):
                base.loop(EVLOOP_NONBLOCK)
        assert site.server.connection_count == 0
        assert len(caplog.records) == 1

    @pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"])
    def test_a_client_that_goes_in_the_middle_of_it_is_logged(self, secure, caplog, said) -> None:
        site = secure(contexts()[1])
        peer = site.connect()
        peer.send(said)
        with caplog.at_level(logging.INFO, logger="evsvc.http"):
            peer.half_close()
            peer.read_to_end()
        assert site.server.connection_count == 0
        assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
            "the client has gone"
        ]

    def test_a_stop_in_the_middle_of_it_still_answers_one_request(self, base, secure) -> None:
        """The client is about to send what it came for."""
        site = secure(contexts()[1])
        sock = TlsSocket(socket.create_connection(("127.0.0.1", site.bound.port)), contexts()[0])
        base.loop(EVLOOP_NONBLOCK)
        site.server.shutdown()
        sock.shake_hands(base)
        peer = Peer(base, sock)
        peer.send(request("/"))
        assert peer.read_to_end().endswith(b"GET / 1 0 ")
        peer.close()


class TestNames:
    def test_each_name_gets_its_certificate(self, secure, connect_tls) -> None:
        names = TlsContexts(server_context_for(issue(HOST)))
        names.add(OTHER, server_context_for(issue(OTHER)))
        names.add("*.wild.example", server_context_for(issue("*.wild.example")))
        names.add("one.wild.example", server_context_for(issue("one.wild.example")))
        site = secure(names)
        for asked, shown in {
            HOST: HOST,
            OTHER: OTHER,
            OTHER.upper(): OTHER,
            "two.wild.example": "*.wild.example",
            "one.wild.example": "one.wild.example",
        }.items():
            peer = connect_tls(site, name=asked)
            assert shown_to(peer) == {shown}
            assert peer.get().status == 200

    def test_an_unknown_name_or_none_gets_the_default(self, secure, connect_tls) -> None:
        names = TlsContexts(server_context_for(issue(HOST)))
        names.add(OTHER, server_context_for(issue(OTHER)))
        site = secure(names)
        client = client_context_for()
        client.check_hostname = False
        for name in (None, "unknown.example", "wild.example"):
            assert shown_to(connect_tls(site, client, name)) == {HOST}

    def test_an_unknown_name_may_be_refused(self, secure, connect_tls, caplog) -> None:
        names = TlsContexts(server_context_for(issue(HOST)), refuse_unknown=True)
        names.add(HOST, contexts()[1])
        names.add("*.wild.example", contexts()[1])
        site = secure(names)
        client = client_context_for()
        client.check_hostname = False
        with (
            caplog.at_level(logging.INFO, logger="evsvc.http"),
            pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"),
        ):
            connect_tls(site, client, "unknown.example")
        for name in (None, HOST, "a.wild.example"):
            assert connect_tls(site, client, name).get().status == 200
        for name in ("wild.example", "a.b.wild.example"):
            with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
                connect_tls(site, client, name)

    def test_names_come_and_go_while_it_serves(self, secure, connect_tls) -> None:
        names = TlsContexts(server_context_for(issue(HOST)))
        site = secure(names)
        client = client_context_for()
        client.check_hostname = False
        names.add(OTHER, server_context_for(issue(OTHER)))
        assert shown_to(connect_tls(site, client, OTHER)) == {OTHER}
        names.remove(OTHER)
        assert shown_to(connect_tls(site, client, OTHER)) == {HOST}
        with pytest.raises(ArgumentError, match=OTHER):
            names.remove(OTHER)

    @pytest.mark.parametrize("name", ["", ".", "*", "*.", "a.*.b", "a..b", "bücher.example"])
    def test_what_is_no_name_is_refused(self, name) -> None:
        with pytest.raises(ArgumentError, match="host name"):
            TlsContexts(server_context_for(issue(HOST))).add(name, contexts()[1])

    def test_arguments_are_judged_at_the_call(self) -> None:
        with pytest.raises(ArgumentTypeError):
            TlsContexts(5)
        with pytest.raises(ArgumentError):
            TlsContexts(contexts()[0])
        own = server_context_for(issue(HOST))
        own.sni_callback = lambda handshake, name, context: None
        with pytest.raises(ArgumentError, match="chooses"):
            TlsContexts(own)
        names = TlsContexts(server_context_for(issue(HOST)))
        with pytest.raises(ArgumentTypeError):
            names.add(5, contexts()[1])
        with pytest.raises(ArgumentTypeError):
            names.add(OTHER, 5)

    def test_a_programs_own_choice_is_left_alone(self, secure, connect_tls) -> None:
        context = server_context_for(issue(HOST))
        asked = []
        context.sni_callback = lambda handshake, name, context: asked.append(name)
        seen = []
        site = secure(context, lambda got, arg: seen.append(got.connection.tls.server_name))
        peer = connect_tls(site)
        peer.send(request("/"))
        assert (asked, seen) == ([HOST], [None])


class TestReload:
    def test_new_handshakes_get_the_new_one_and_connections_stay(
        self, secure, connect_tls, tmp_path
    ) -> None:
        names = TlsContexts(server_context_for(issue(HOST)))
        names.add(OTHER, server_context_for(issue(OTHER)))
        site = secure(names)
        before = connect_tls(site)
        names.reload_certificate(write_pem(issue(HOST, "new.example"), tmp_path / "new.pem"))
        names.reload_certificate(
            write_pem(issue(OTHER, "new.example"), tmp_path / "other.pem"), name=OTHER
        )
        assert before.get().status == 200
        assert shown_to(connect_tls(site)) == {HOST, "new.example"}
        assert shown_to(connect_tls(site, name=OTHER)) == {OTHER, "new.example"}

    def test_a_context_alone_can_be_reloaded(self, secure, connect_tls, tmp_path) -> None:
        context = server_context_for(issue(HOST))
        site = secure(context)
        path = write_pem(issue(HOST, "new.example"), tmp_path / "new.pem")
        tls.reload_certificate(context, path)
        assert shown_to(connect_tls(site)) == {HOST, "new.example"}

    def test_a_bad_file_raises_and_the_old_one_goes_on(self, secure, connect_tls, tmp_path) -> None:
        names = TlsContexts(server_context_for(issue(HOST)))
        site = secure(names)
        bad = tmp_path / "bad.pem"
        bad.write_text("no certificate")
        for path in (bad, tmp_path / "missing.pem"):
            with pytest.raises(SocketError, match=path.name):
                names.reload_certificate(path)
        with pytest.raises(ArgumentError, match=OTHER):
            names.reload_certificate(bad, name=OTHER)
        assert shown_to(connect_tls(site)) == {HOST}


class TestInfo:
    def test_a_handler_sees_what_was_agreed_on(self, secure, connect_tls) -> None:
        seen = []

        def answer(got, arg):
            seen.append(got.connection.tls)
            got.send_reply(204)

        site = secure(server_context_for(issue(HOST), alpn=["http/1.1"]), answer)
        peer = connect_tls(site, client_context_for(alpn=["h2", "http/1.1"]))
        peer.ask(request("/"), has_body=False)
        (info,) = seen
        assert (info.protocol, info.server_name, info.alpn) == ("TLSv1.3", HOST, "http/1.1")
        assert info.cipher == peer.sock.ssl.cipher()[0]
        assert (info.peer_certificate, info.peer_certificate_der) == (None, None)

    def test_a_handler_reads_the_clients_certificate(self, secure, connect_tls) -> None:
        seen = []

        def answer(got, arg):
            seen.append((got.peer_certificate, got.connection.tls))
            got.send_reply(204)

        site = secure(server_context_for(issue(HOST), asks_clients=True), answer)
        client = issue("client.example")
        peer = connect_tls(site, client_context_for(client))
        peer.ask(request("/"), has_body=False)
        ((certificate, info),) = seen
        assert certificate["subjectAltName"] == (("DNS", "client.example"),)
        der = ssl.PEM_cert_to_DER_cert(client.cert_chain_pems[0].bytes().decode())
        assert info.peer_certificate_der == der

    def test_who_has_none_where_one_is_asked_for_gets_no_answer(self, secure, connect_tls) -> None:
        site = secure(server_context_for(issue(HOST), asks_clients=True))
        peer = connect_tls(site)  # of TLS 1.3: the refusal comes behind the client's handshake
        with pytest.raises(ssl.SSLError):
            peer.get()
        assert site.server.connection_count == 0

    def test_there_is_none_without_tls_nor_behind_the_end(self, site, secure, connect_tls) -> None:
        seen = []
        site.server.set_gencb(lambda got, arg: seen.append(got))
        peer = site.connect()
        peer.send(request("/"))
        assert (seen[0].peer_certificate, seen[0].connection.tls) == (None, None)
        secret = secure(contexts()[1], lambda got, arg: seen.append(got))
        peer = connect_tls(secret)
        peer.send(request("/"))
        handle = seen[1].connection
        handle.close()
        assert (seen[1].peer_certificate, handle.tls) == (None, None)


def test_a_virtual_host_answers_over_tls(base, secure, connect_tls) -> None:
    site = secure(contexts()[1])
    with HttpServer(base) as vhost:
        vhost.set_gencb(lambda got, arg: got.send_reply(200, None, b"virtual"))
        site.server.add_virtual_host(HOST, vhost)
        peer = connect_tls(site)
        assert peer.get(f"http://{HOST}/").body == b"virtual"
