"""The engine of TLS alone: two of them talk through byte strings, without any socket."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from evsvc.core import ArgumentError, StateError, TlsEngine
from evsvc.core.tls_engine import (
    HAS_DATA,
    READING_MOVES,
    RECORD_BYTES,
    WANTS_BYTES,
    WRITING_MOVES,
    Reading,
    ReadStep,
    WriteStep,
    Writing,
    moved,
)
from tests.core.tls_ends import (
    HOST,
    client_context_for,
    contexts,
    issue,
    server_context_for,
    shaken_engines,
)

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
GARBAGE = b"\x17\x03\x03\x00\x20" + bytes(32)

Ends = tuple[TlsEngine, TlsEngine]


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    version: ssl.TLSVersion = request.param
    return version


def fresh_ends(version: ssl.TLSVersion | None = None, host: str = HOST) -> Ends:
    """Return the engines of a client and a server before their handshake."""
    client_context, server_context = contexts()
    if version is not None:
        client_context = client_context_for()
        client_context.maximum_version = version
    return (
        TlsEngine(client_context, server_side=False, server_hostname=host),
        TlsEngine(server_context, server_side=True),
    )


def whole(data: bytes) -> Iterator[bytes]:
    if data:
        yield data


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    for byte in data:
        yield bytes([byte])


def carry(one: TlsEngine, other: TlsEngine, cut: Any = whole) -> None:
    """Carry to `other` what `one` has to send, in pieces, and let it shake hands meanwhile."""
    for piece in cut(one.data_to_send()):
        if other.reading in WANTS_BYTES:
            other.feed(piece)
            other.handshake()


def shake(client: TlsEngine, server: TlsEngine, cut: Any = whole) -> None:
    """Have both talk until neither has anything to say."""
    client.handshake()
    server.handshake()
    while client.outgoing.pending or server.outgoing.pending:
        carry(client, server, cut)
        carry(server, client, cut)


def open_ends(version: ssl.TLSVersion | None = None) -> Ends:
    client, server = fresh_ends(version)
    shake(client, server)
    assert client.writing is server.writing is Writing.FRESH
    return client, server


def is_writing(engine: TlsEngine, phase: Writing) -> bool:
    return engine.writing is phase


def read_all(engine: TlsEngine, most: int = RECORD_BYTES) -> bytes:
    """Decrypt until the engine has no more."""
    pieces = []
    while engine.reading in HAS_DATA:
        pieces.append(engine.decrypt(most))
        assert len(pieces[-1]) <= most
    return b"".join(pieces)


@pytest.mark.parametrize(("phase", "step"), list(itertools.product(Reading, ReadStep)))
def test_only_listed_moves_of_reading_are_legal(phase: Reading, step: ReadStep) -> None:
    check_move(READING_MOVES, phase, step)


@pytest.mark.parametrize(("phase", "step"), list(itertools.product(Writing, WriteStep)))
def test_only_listed_moves_of_writing_are_legal(phase: Writing, step: WriteStep) -> None:
    check_move(WRITING_MOVES, phase, step)


def check_move(moves: Any, phase: Any, step: Any) -> None:
    if (phase, step) in moves:
        assert moved(moves, phase, step) is moves[phase, step]
    else:
        with pytest.raises(StateError, match=f"{step.name} is not legal .* is {phase.name}"):
            moved(moves, phase, step)


@pytest.mark.parametrize(
    ("moves", "phases", "ends"),
    [
        (READING_MOVES, list(Reading), {Reading.ENDED, Reading.CUT, Reading.FAILED}),
        (WRITING_MOVES, list(Writing), {Writing.FAILED}),
    ],
)
def test_every_phase_is_reached_and_an_end_is_one(moves: Any, phases: Any, ends: Any) -> None:
    assert {phases[0], *moves.values()} == set(phases)
    for (phase, _), after in moves.items():
        assert phase not in ends or after is phase
    for phase in set(phases) - ends:
        assert any(before is phase and after is not phase for (before, _), after in moves.items())


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
def test_two_engines_shake_hands_wherever_the_bytes_are_cut(
    version: ssl.TLSVersion, cut: Any
) -> None:
    client, server = fresh_ends(version)
    assert not client.is_shaken
    assert not client.handshake()
    assert not client.handshake()  # it wants to be fed first
    shake(client, server, cut)
    for engine in (client, server):
        assert engine.is_shaken
        assert engine.handshake()
        assert engine.ssl.version() == version.name.replace("_", ".")
        assert engine.error is None
    client.encrypt(b"question")
    server.encrypt(b"answer")
    carry(client, server, cut)
    carry(server, client, cut)
    assert read_all(server) == b"question"
    assert read_all(client) == b"answer"
    assert client.reading is server.reading is Reading.STARVED


def test_a_record_may_be_cut_anywhere(version: ssl.TLSVersion) -> None:
    client, server = open_ends(version)
    read_all(server)
    size = 1
    cut = 0
    while cut < size:
        client.encrypt(b"a record")
        record = client.data_to_send()
        size = len(record)
        if cut:
            server.feed(record[:cut])
            assert server.decrypt() == b""
            assert server.reading is Reading.STARVED
        server.feed(record[cut:])
        assert read_all(server) == b"a record"
        cut += 1


@given(
    said=st.lists(st.binary(max_size=3000), max_size=5),
    cuts=st.lists(st.integers(1, 5000), max_size=20),
    most=st.integers(1, 4000),
)
@settings(deadline=None, max_examples=50)
def test_however_it_is_cut_and_asked_for_the_same_comes_out(
    said: list[bytes], cuts: list[int], most: int
) -> None:
    client, server = open_ends()
    for data in said:
        client.encrypt(data)
    client.close_notify()
    wire = client.data_to_send()
    received = bytearray()
    for size in [*cuts, len(wire)]:
        piece, wire = wire[:size], wire[size:]
        if piece:
            server.feed(piece)
        received += read_all(server, most)
    assert received == b"".join(said)
    assert server.reading is Reading.ENDED
    assert server.error is None


def records_in(wire: bytes) -> Iterator[bytes]:
    while wire:
        size = 5 + int.from_bytes(wire[3:5], "big")
        yield wire[:size]
        wire = wire[size:]


@pytest.mark.parametrize(("size", "count"), [(RECORD_BYTES, 1), (RECORD_BYTES + 1, 2)])
def test_a_record_has_a_most(version: ssl.TLSVersion, size: int, count: int) -> None:
    client, server = open_ends(version)
    client.encrypt(bytes(size))
    wire = client.data_to_send()
    assert len(list(records_in(wire))) == count
    server.feed(wire)
    assert len(server.decrypt(RECORD_BYTES + 1)) == RECORD_BYTES


def test_large_data_come_in_bounded_pieces(version: ssl.TLSVersion) -> None:
    client, server = open_ends(version)
    data = bytes(range(256)) * 4096
    client.encrypt(memoryview(data))
    server.feed(client.data_to_send())
    assert server.decrypt(1) == data[:1]
    assert server.decrypt(1000) == data[1:1001]
    assert read_all(server) == data[1001:]


@pytest.mark.parametrize("most", [0, -1])
def test_at_least_a_byte_is_asked_for(most: int) -> None:
    """None would look like an end."""
    with pytest.raises(ArgumentError, match=str(most)):
        shaken_engines()[0].decrypt(most)


def test_nothing_is_encrypted_of_nothing() -> None:
    client, _ = open_ends()
    client.data_to_send()
    client.encrypt(b"")
    assert client.data_to_send() == b""


def test_tickets_are_bytes_without_data() -> None:
    """A TLS 1.3 server sends two of them after the handshake (RFC 8446 section 4.6.1)."""
    client, server = fresh_ends()
    client.handshake()
    carry(client, server)
    carry(server, client)
    carry(client, server)
    tickets = server.data_to_send()
    assert client.ssl.session is not None
    assert not client.ssl.session.has_ticket
    client.feed(tickets)
    assert read_all(client) == b""
    assert client.reading is Reading.STARVED
    assert client.ssl.session.has_ticket


def test_data_may_follow_the_handshake_at_once() -> None:
    client, server = fresh_ends()
    client.handshake()
    carry(client, server)
    client.feed(server.data_to_send())
    assert client.handshake()
    client.encrypt(b"with the last of the handshake")
    server.feed(client.data_to_send())
    assert server.handshake()
    assert read_all(server) == b"with the last of the handshake"


def refused(client: TlsEngine, server: TlsEngine) -> None:
    shake(client, server)
    for engine in (client, server):
        read_all(engine)


def test_a_certificate_for_another_host_fails_both(version: ssl.TLSVersion) -> None:
    client, server = fresh_ends(version, "other.example")
    refused(client, server)
    assert client.is_failed
    assert client.reading is Reading.FAILED
    assert isinstance(client.error, ssl.SSLCertVerificationError)
    assert server.is_failed
    assert "ALERT_BAD_CERTIFICATE" in str(getattr(server.error, "reason", ""))
    assert not client.handshake()


def test_a_certificate_of_an_unknown_authority_fails(version: ssl.TLSVersion) -> None:
    client, _ = fresh_ends(version)
    context = server_context_for(trustme.CA().issue_cert(HOST))
    refused(client, TlsEngine(context, server_side=True))
    assert isinstance(client.error, ssl.SSLCertVerificationError)


def test_a_client_is_refused_for_want_of_a_certificate(version: ssl.TLSVersion) -> None:
    """In TLS 1.3 after its own handshake: by an alert where data would be."""
    client, _ = fresh_ends(version)
    server = TlsEngine(server_context_for(issue(HOST), asks_clients=True), server_side=True)
    refused(client, server)
    assert server.is_failed
    assert client.is_failed
    assert "ALERT" in str(getattr(client.error, "reason", ""))


@pytest.mark.parametrize("side", [0, 1])
def test_garbage_in_the_handshake_fails_with_an_alert(side: int) -> None:
    engine = fresh_ends()[side]
    engine.handshake()
    engine.data_to_send()
    engine.feed(b"GET / HTTP/1.1\r\n\r\n")
    assert not engine.handshake()
    assert engine.is_failed
    assert isinstance(engine.error, ssl.SSLError)


@pytest.mark.parametrize("side", [0, 1])
def test_a_record_that_was_tampered_with_fails_both_directions(
    version: ssl.TLSVersion, side: int
) -> None:
    """What came before it is given; an alert says why (RFC 8446 section 5.2)."""
    ends = open_ends(version)
    engine, peer = ends[side], ends[1 - side]
    peer.encrypt(b"good")
    engine.feed(peer.data_to_send() + GARBAGE)
    assert read_all(engine) == b"good"
    assert engine.reading is Reading.FAILED
    assert engine.is_failed
    assert isinstance(engine.error, ssl.SSLError)
    assert engine.error.__traceback__ is None
    peer.feed(engine.data_to_send())
    assert read_all(peer) == b""
    assert "ALERT" in str(getattr(peer.error, "reason", ""))
    with pytest.raises(StateError, match=r"FEED .* FAILED"):
        engine.feed(b"more")
    with pytest.raises(StateError, match="FAILED"):
        engine.encrypt(b"more")
    with pytest.raises(StateError, match=r"CLOSE .* FAILED"):
        engine.close_notify()


def test_an_end_without_close_notify_is_a_cut_wherever_it_comes(version: ssl.TLSVersion) -> None:
    """All that had come whole is given first."""
    size = 1
    cut = 0
    while cut <= size:
        client, server = shaken_engines() if version is VERSIONS[1] else open_ends(version)
        client.handshake()
        server.handshake()
        client.data_to_send()
        client.encrypt(b"data")
        first = client.data_to_send()
        client.close_notify()
        wire = first + client.data_to_send()
        size = len(wire)
        server.feed(wire[:cut])
        server.feed_eof()
        assert read_all(server) == (b"data" if cut >= len(first) else b"")
        if cut == size:
            assert server.reading is Reading.ENDED
            assert server.error is None
        else:
            assert server.reading is Reading.CUT
            assert isinstance(server.error, ssl.SSLEOFError)
        assert server.writing is Writing.FRESH  # the peer may still read
        cut += 1


def test_an_end_of_the_transport_may_have_a_reason() -> None:
    _, server = open_ends()
    reset = ConnectionResetError("reset")
    server.feed_eof(reset)
    read_all(server)
    assert server.reading is Reading.CUT
    assert server.error is reset
    with pytest.raises(StateError, match=r"EOF .* CUT"):
        server.feed_eof()
    with pytest.raises(StateError, match=r"FEED .* CUT"):
        server.feed(b"x")


def test_an_end_in_the_handshake_fails_it(version: ssl.TLSVersion) -> None:
    """After each flight of it, and after each byte of the server's."""
    client, server = fresh_ends(version)
    client.handshake()
    hello = client.data_to_send()
    for flight in (b"", hello[:1], hello[:-1]):
        engine = fresh_ends()[1]
        engine.feed(flight)
        engine.handshake()
        engine.feed_eof()
        assert not engine.handshake()
        assert engine.reading is Reading.CUT
        assert engine.is_failed
        assert isinstance(engine.error, ssl.SSLEOFError)
    server.feed(hello)
    server.handshake()
    server.feed_eof()
    assert not server.handshake()
    assert server.is_failed


def test_the_end_of_the_handshake_may_be_the_last_that_comes(version: ssl.TLSVersion) -> None:
    """The peer's end is known before what came with it was looked at."""
    client, server = fresh_ends(version)
    client.handshake()
    carry(client, server)
    carry(server, client)
    carry(client, server) if version is VERSIONS[0] else None
    last, end = (client, server) if client.outgoing.pending else (server, client)
    end.feed(last.data_to_send())
    end.feed_eof()
    assert end.handshake()
    assert read_all(end) == b""
    assert end.reading is Reading.CUT
    assert end.writing is Writing.FRESH


def test_each_direction_is_closed_by_itself(version: ssl.TLSVersion) -> None:
    """RFC 8446 section 6.1: the other may go on."""
    client, server = open_ends(version)
    assert client.close_notify()
    assert client.writing is Writing.CLOSED
    server.feed(client.data_to_send())
    assert read_all(server) == b""
    assert server.reading is Reading.ENDED
    server.encrypt(b"afterwards")
    client.feed(server.data_to_send())
    assert read_all(client) == b"afterwards"
    assert server.close_notify()
    client.feed(server.data_to_send())
    assert read_all(client) == b""
    assert client.reading is Reading.ENDED
    assert client.error is server.error is None
    for engine in (client, server):
        with pytest.raises(StateError, match=r"CLOSE .* CLOSED"):
            engine.close_notify()
        with pytest.raises(StateError, match="CLOSED"):
            engine.encrypt(b"more")
        engine.feed(GARBAGE)  # after the end: ignored
        engine.feed_eof()
        assert engine.decrypt() == b""
        assert engine.reading is Reading.ENDED
        assert engine.error is None


def test_a_failure_after_our_end_is_one() -> None:
    client, _ = open_ends()
    client.close_notify()
    client.feed(GARBAGE)
    assert read_all(client) == b""
    assert client.is_failed
    assert client.reading is Reading.FAILED


@pytest.mark.parametrize("side", [0, 1])
def test_before_the_handshake_no_data_move(side: int) -> None:
    engine = fresh_ends()[side]
    with pytest.raises(StateError, match="handshake"):
        engine.decrypt()
    with pytest.raises(StateError, match="SHAKING"):
        engine.encrypt(b"x")
    with pytest.raises(StateError, match=r"RESUME .* SHAKING"):
        engine.retry()


class StubbornObject:
    """Stands in for an SSLObject whose writes want the peer's bytes first, as in a
    renegotiation, which Python's ssl cannot begin."""

    def __init__(self, refusals: Iterable[ssl.SSLError | None]) -> None:
        self.refusals = iter(refusals)
        self.offered: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.offered.append(bytes(data))
        refusal = next(self.refusals)
        if refusal is not None:
            raise refusal
        return len(data)

    def unwrap(self) -> None:
        refusal = next(self.refusals)
        assert refusal is not None
        raise refusal


def stubborn(*refusals: ssl.SSLError | None) -> tuple[TlsEngine, StubbornObject]:
    engine = open_ends()[0]
    stub: Any = StubbornObject(refusals)
    engine.ssl = stub
    return engine, stub


def test_a_write_that_wants_to_read_is_tried_again_with_the_same_data() -> None:
    engine, stub = stubborn(ssl.SSLWantReadError(), ssl.SSLWantReadError(), None, None, None)
    data = bytearray(b"first")
    engine.encrypt(data)
    assert engine.writing is Writing.WAITING
    data[:] = b"other"
    engine.encrypt(b"second")
    assert stub.offered == [b"first"]
    with pytest.raises(StateError, match=r"CLOSE .* WAITING"):
        engine.close_notify()
    engine.retry()
    assert is_writing(engine, Writing.WAITING)
    engine.retry()
    assert is_writing(engine, Writing.OPEN)
    assert stub.offered == [b"first", b"first", b"first", b"second"]
    engine.encrypt(b"third")
    assert stub.offered[-1] == b"third"
    with pytest.raises(StateError, match=r"RESUME .* OPEN"):
        engine.retry()


def test_a_write_that_fails_takes_what_waits_with_it() -> None:
    failure = ssl.SSLError(1, "no renegotiation")
    engine, stub = stubborn(ssl.SSLWantReadError(), failure)
    engine.encrypt(b"first")
    engine.encrypt(b"second")
    engine.retry()
    assert engine.is_failed
    assert engine.error is failure
    assert stub.offered == [b"first", b"first"]


def test_a_close_notify_waits_for_the_end_of_a_renegotiation() -> None:
    busy = ssl.SSLError(1, "[SSL: SHUTDOWN_WHILE_IN_INIT]")
    busy.reason = "SHUTDOWN_WHILE_IN_INIT"
    engine, _ = stubborn(busy, ssl.SSLWantReadError())
    assert not engine.close_notify()
    assert is_writing(engine, Writing.FRESH)
    assert engine.close_notify()
    assert is_writing(engine, Writing.CLOSED)


def test_a_close_notify_that_openssl_refuses_is_a_failure() -> None:
    failure = ssl.SSLError(1, "no")
    failure.reason = "UNSUPPORTED"
    engine, _ = stubborn(failure)
    assert not engine.close_notify()
    assert engine.is_failed
    assert engine.error is failure


def test_data_of_ours_are_told_from_the_end_of_the_handshake() -> None:
    """What is lost of that alone, such as tickets, is no loss to the program."""
    client, server = open_ends()
    client.encrypt(b"x")
    assert client.writing is Writing.OPEN
    assert server.writing is Writing.FRESH


def test_a_program_may_drive_the_handshake_itself() -> None:
    client, server = shaken_engines()
    assert client.is_shaken
    assert client.handshake()
    client.encrypt(b"then as ever")
    server.feed(client.data_to_send())
    assert server.handshake()
    assert read_all(server) == b"then as ever"
