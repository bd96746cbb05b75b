"""permessage-deflate: what is agreed on, what is inflated, and how much of it."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, TextMessage
from wsproto.utilities import RemoteProtocolError

from evsvc.http.websocket.deflate import Deflate, parse_parameters

NAME = "permessage-deflate"
LIMIT = 1 << 20


def agreed(offer: str = "", **how) -> str | None:
    """What a server answers to an offer."""
    return Deflate(LIMIT, **how).accept(f"{NAME}; {offer}" if offer else NAME)


def both(client=None, server=None, limit=LIMIT) -> tuple[Connection, Connection]:
    """A client and a server that have agreed."""
    ours, theirs = Deflate(limit, **(client or {})), Deflate(limit, **(server or {}))
    answer = theirs.accept(f"{NAME}; {ours.offer()}")
    assert answer is not None
    ours.finalize(f"{NAME}; {answer}" if answer else NAME)
    return (
        Connection(ConnectionType.CLIENT, [ours]),
        Connection(ConnectionType.SERVER, [theirs]),
    )


def received(connection: Connection, data: bytes) -> list:
    connection.receive_data(data)
    return list(connection.events())


def frame(payload: bytes, first: int = 0xC2) -> bytes:
    """A masked frame, by default a whole compressed message."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes((first,)) + length + bytes(4) + payload


def deflated(data: bytes, level: int = 9) -> bytes:
    deflater = zlib.compressobj(level, zlib.DEFLATED, -15)
    return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


class TestAgreeing:
    @pytest.mark.parametrize(
        ("offer", "answer"),
        [
            ("", ""),
            ("client_max_window_bits", ""),
            ("client_max_window_bits=10", ""),
            ('client_max_window_bits="10"', ""),
            ("server_max_window_bits=9", "server_max_window_bits=9"),
            ("server_max_window_bits=15", "server_max_window_bits=15"),
            ("server_no_context_takeover", "server_no_context_takeover"),
            ("client_no_context_takeover", "client_no_context_takeover"),
            (
                "client_no_context_takeover; server_max_window_bits=12; server_no_context_takeover",
                "server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12",
            ),
            ("server_max_window_bits=8", None),
            ("server_max_window_bits", None),
            ("server_max_window_bits=16", None),
            ("server_max_window_bits=7", None),
            ("server_max_window_bits=09", None),
            ("server_max_window_bits=x", None),
            ("server_max_window_bits=", None),
            ("client_max_window_bits=99", None),
            ("server_no_context_takeover=1", None),
            ("server_no_context_takeover; server_no_context_takeover", None),
            ("compression_level=9", None),
            ("server_no_context_takeovers", None),
        ],
    )
    def test_an_offer_is_answered_or_declined(self, offer, answer) -> None:
        assert agreed(offer) == answer

    def test_a_second_offer_is_not_taken(self) -> None:
        extension = Deflate(LIMIT)
        assert extension.accept(NAME) == ""
        assert extension.accept(NAME) is None

    def test_without_takeover_both_forget(self) -> None:
        assert agreed(takeover=False) == "server_no_context_takeover; client_no_context_takeover"
        assert "client_no_context_takeover" in Deflate(LIMIT, takeover=False).offer()

    @pytest.mark.parametrize(
        "answer",
        [
            "server_max_window_bits",
            "client_max_window_bits",
            "client_max_window_bits=8",
            "client_max_window_bits=16",
            "unknown",
            "server_no_context_takeover=1",
        ],
    )
    def test_a_bad_answer_ends_the_handshake(self, answer) -> None:
        with pytest.raises(RemoteProtocolError):
            Deflate(LIMIT).finalize(f"{NAME}; {answer}")

    def test_an_answer_is_given_once(self) -> None:
        extension = Deflate(LIMIT)
        extension.finalize(NAME)
        with pytest.raises(RemoteProtocolError):
            extension.finalize(NAME)

    def test_parameters_are_read(self) -> None:
        assert parse_parameters(
            f'{NAME} ; client_max_window_bits ; server_max_window_bits="9"'
        ) == {
            "client_max_window_bits": None,
            "server_max_window_bits": "9",
        }


class TestMessages:
    @pytest.mark.parametrize("client", [{}, {"takeover": False}])
    @pytest.mark.parametrize("server", [{}, {"takeover": False}])
    def test_what_is_sent_arrives(self, client, server) -> None:
        ends = both(client, server)
        for _ in range(3):
            for one, other in (ends, ends[::-1]):
                for message in (TextMessage(data="a" * 1000), BytesMessage(data=b"")):
                    (got,) = received(other, one.send(message))
                    assert got.data == message.data

    def test_earlier_messages_help(self) -> None:
        text = TextMessage(data="".join(map(str, range(1000))))
        sizes = {}
        for takeover in (False, True):
            one, _ = both({"takeover": takeover})
            one.send(text)
            sizes[takeover] = len(one.send(text))
        assert sizes[True] * 10 < sizes[False]

    def test_each_fragment_can_be_read_when_it_has_come(self) -> None:
        one, other = both()
        for number, last in ((1, False), (2, False), (3, True)):
            data = one.send(TextMessage(data=f"piece {number}", message_finished=last))
            assert "".join(got.data for got in received(other, data)) == f"piece {number}"

    def test_a_ping_between_fragments_changes_nothing(self) -> None:
        one, other = both()
        received(other, one.send(TextMessage(data="a" * 100, message_finished=False)))
        assert isinstance(received(other, one.send(Ping(payload=b"x")))[0], Ping)
        got = received(other, one.send(TextMessage(data="b" * 100)))
        assert "".join(each.data for each in got) == "b" * 100

    def test_a_message_may_come_uncompressed(self) -> None:
        _, server = both()
        (got,) = received(server, frame(b"plain", 0x82))
        assert got.data == b"plain"

    def test_a_smaller_window_is_kept_to(self) -> None:
        extension = Deflate(LIMIT)
        assert extension.accept(f"{NAME}; server_max_window_bits=9") is not None
        server = Connection(ConnectionType.SERVER, [extension])
        noise = bytes(range(256)) * 8
        data = server.send(BytesMessage(data=noise))
        small = zlib.decompressobj(-9)
        assert small.decompress(data[4:] + b"\0\0\xff\xff") == noise

    def test_a_last_block_ends_one_message_and_no_more(self) -> None:
        """RFC 7692 section 7.2.3.4: a block may be marked as the last one."""
        _, server = both()
        deflater = zlib.compressobj(wbits=-15)
        last = deflater.compress(b"Hello") + deflater.flush() + b"\0"
        for _ in range(2):
            got = received(server, frame(last))
            assert b"".join(each.data for each in got) == b"Hello"

    @pytest.mark.parametrize(
        "data",
        [
            frame(b"\xff\xff\xff"),  # no DEFLATE
            frame(deflated(b"\xff"), 0xC1),  # no UTF-8
        ],
    )
    def test_what_cannot_be_read_is_1007(self, data) -> None:
        assert [got.code for got in received(both()[1], data)] == [1007]

    @pytest.mark.parametrize("first", [0xC0, 0xC9, 0xA2, 0x92])
    def test_reserved_bits_elsewhere_are_1002(self, first) -> None:
        assert [got.code for got in received(both()[1], frame(b"", first))] == [1002]


class TestBombs:
    @pytest.mark.parametrize(("size", "code"), [(LIMIT, None), (LIMIT + 1, 1009)])
    def test_a_message_is_inflated_up_to_the_limit(self, size, code) -> None:
        got = received(both()[1], frame(deflated(bytes(size))))
        codes = [each.code for each in got if isinstance(each, CloseConnection)]
        assert codes == ([code] if code else [])
        assert sum(len(each.data) for each in got if isinstance(each, Message)) <= LIMIT

    def test_the_fragments_count_together(self) -> None:
        _, server = both(limit=1000)
        half = zlib.compressobj(9, zlib.DEFLATED, -15)
        pieces = [half.compress(bytes(600)) + half.flush(zlib.Z_SYNC_FLUSH) for _ in range(2)]
        assert len(received(server, frame(pieces[0], 0x42))) == 1
        assert [each.code for each in received(server, frame(pieces[1], 0x00))] == [1009]

    def test_the_next_message_counts_anew(self) -> None:
        one, other = both(limit=1000)
        for _ in range(5):
            (got,) = received(other, one.send(BytesMessage(data=bytes(1000))))
            assert len(got.data) == 1000

    def test_a_bomb_is_never_in_memory(self) -> None:
        _, server = both()
        bomb = frame(deflated(bytes(60 << 20)))  # 60 KiB
        tracemalloc.start()
        try:
            received(server, bomb)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()

    def test_behind_a_last_block_nothing_is_kept(self) -> None:
        _, server = both()
        deflater = zlib.compressobj(wbits=-15)
        last = deflater.compress(b"Hello") + deflater.flush()
        received(server, frame(last, 0x42))
        tracemalloc.start()
        try:
            for _ in range(100):
                received(server, frame(bytes(60_000), 0x00))
            assert tracemalloc.get_traced_memory()[1] < 2 << 20
        finally:
            tracemalloc.stop()
