"""The fast path of frames: it tells and makes what wsproto does."""

from __future__ import annotations

import itertools
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, TextMessage

from evsvc.http.websocket.deflate import Deflate
from evsvc.http.websocket.frames import FrameReader, masked, ordinary_frame

CLIENT, SERVER = ConnectionType.CLIENT, ConnectionType.SERVER
MASK = b"\x01\x02\x03\x04"
LIMIT = 1000


def frame(first: int, payload: bytes, *, mask: bytes | None = MASK, form: int = 0) -> bytes:
    """A frame.  form: how many bytes its length has at the least, 0, 2 or 8."""
    size, bit = len(payload), 0x80 if mask else 0
    if size > 0xFFFF or form == 8:
        head = bytes((first, bit | 127)) + size.to_bytes(8)
    elif size > 125 or form == 2:
        head = bytes((first, bit | 126)) + size.to_bytes(2)
    else:
        head = bytes((first, bit | size))
    return head + (mask + masked(payload, mask) if mask else payload)


def told(events, out: list, pieces: list) -> bool:
    """Add what events say to `out`, messages as one; whether they are the last."""
    for event in events:
        if isinstance(event, (str, bytes)):
            assert not pieces
            out.append(event)
        elif isinstance(event, Message):
            pieces.append(event.data)
            if event.message_finished:
                out.append(type(event.data)().join(pieces))
                pieces.clear()
        else:
            out.append((type(event), getattr(event, "code", None), getattr(event, "payload", None)))
            if isinstance(event, CloseConnection):
                return True
    return False


def connection(side: ConnectionType, deflate: bool) -> tuple[Connection, Deflate | None]:
    extension = Deflate(LIMIT)
    if deflate:
        extension.accept("permessage-deflate")
    return Connection(side, [extension]), extension if deflate else None


def by_wsproto(chunks: list[bytes], side: ConnectionType, deflate: bool) -> list:
    frames, _ = connection(side, deflate)
    out, pieces = [], []
    for chunk in chunks:
        frames.receive_data(chunk)
        if told(frames.events(), out, pieces):
            break
    return out


def by_us(chunks: list[bytes], side: ConnectionType, deflate: bool, limit: int = LIMIT) -> list:
    reader = FrameReader(*connection(side, deflate), limit)
    out, pieces = [], []
    for chunk in chunks:
        reader.receive(chunk)
        if told(iter(reader.next, None), out, pieces):
            break
    return out


def deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


FIRST = st.one_of(
    st.sampled_from([0x81, 0x82]),
    st.sampled_from([0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A, 0x88, 0xC1, 0xC2]),
    st.integers(0, 255),
)
PAYLOAD = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=20).map(str.encode),
    st.sampled_from([0, 5, 900, LIMIT, LIMIT + 1]).map(lambda size: deflated(b"x" * size)),
    st.sampled_from([deflated(b"\xff"), b"\x01\0\0\xff\xff", b"\x03\0", b""]),
    st.sampled_from([b"x" * 125, b"x" * 126, b"x" * 2000, b"\x03\xe8bye", b"\xc3", b"\xa9"]),
)
FRAME = st.builds(
    frame,
    FIRST,
    PAYLOAD,
    mask=st.sampled_from([MASK, MASK, MASK, None]),
    form=st.sampled_from([0, 0, 0, 2, 8]),
)


@pytest.mark.no_cover
@given(
    frames=st.lists(st.one_of(FRAME, st.binary(max_size=8)), max_size=8),
    cuts=st.lists(st.integers(0, 200), max_size=8),
    side=st.sampled_from([SERVER, SERVER, CLIENT]),
    deflate=st.booleans(),
)
def test_the_law(frames, cuts, side, deflate) -> None:
    # Zeros: what begins as a frame is one to the end of its head.
    data = b"".join(frames) + bytes(14)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[begin:end] for begin, end in itertools.pairwise(edges)]
    assert by_us(chunks, side, deflate) == by_wsproto(chunks, side, deflate)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
@pytest.mark.parametrize("text", [False, True])
class TestSizes:
    def test_what_is_made_is_what_wsproto_makes(self, size, text) -> None:
        message = "x" * size if text else bytes(size)
        event = TextMessage(data=message) if text else BytesMessage(data=message)
        made = b"".join(ordinary_frame(message, None, is_client=False))
        assert made == Connection(SERVER).send(event)

    @pytest.mark.parametrize("chunk", [1000, 65536, 1 << 20])
    def test_what_a_client_makes_a_server_reads(self, size, text, chunk) -> None:
        message = "x" * size if text else bytes(size)
        data = b"".join(ordinary_frame(message, None, is_client=True)) * 2
        chunks = [data[at : at + chunk] for at in range(0, len(data), chunk)]
        assert by_us(chunks, SERVER, False, 1 << 20) == [message] * 2
        assert by_wsproto(chunks, SERVER, False) == [message] * 2


def test_compressed_messages_are_those_of_wsproto(both) -> None:
    for is_client in (True, False):
        ours, theirs = both[is_client], both[not is_client]
        for message in ("hello", b"\0" * 1000, "hello", "", "hello " * 100):
            kind = TextMessage if isinstance(message, str) else BytesMessage
            data = b"".join(ordinary_frame(message, ours[1], is_client=is_client))
            assert ours[0].send(kind(data=message))[:2] == data[:2]
            reader = FrameReader(*theirs, 10_000)
            reader.receive(data)
            assert list(iter(reader.next, None)) == [message]


@pytest.fixture
def both():
    """A server's connection and its extension, and a client's."""
    server, client = Deflate(10_000, takeover=False), Deflate(10_000, takeover=False)
    client.finalize(f"{Deflate.name}; {server.accept(f'{Deflate.name}; {client.offer()}')}")
    return [
        (Connection(SERVER, [server]), server),
        (Connection(CLIENT, [client]), client),
    ]


@pytest.mark.parametrize("size", [*range(10), 1499, 1500, 1501, 1502, 1503, 5000])
def test_masking_is_its_own_reverse(size) -> None:
    data = (bytes(range(256)) * 20)[:size]
    assert masked(data, MASK) == bytes(byte ^ MASK[at % 4] for at, byte in enumerate(data))
    assert masked(masked(data, MASK), MASK) == data


def test_keys_are_not_foreseen() -> None:
    keys = {ordinary_frame(b"x", None, is_client=True)[0][-4:] for _ in range(20)}
    assert len(keys) == 20


def test_a_text_that_is_none_is_refused_while_it_comes() -> None:
    data = frame(0x81, b"a\xff" + b"x" * 500)
    assert by_us([data[:10]], SERVER, False) == [(CloseConnection, 1007, None)]


@pytest.mark.parametrize("first", [0x81, 0x82])
def test_a_frame_beyond_the_limit_is_not_kept(first) -> None:
    """wsproto gives it in pieces, and whoever counts them ends it."""
    reader = FrameReader(*connection(SERVER, False), LIMIT)
    reader.receive(frame(first, b"x" * (LIMIT + 1))[:-1])
    (event,) = iter(reader.next, None)
    assert len(event.data) == LIMIT
    assert not event.message_finished


def test_a_long_frame_in_small_pieces_costs_no_more_than_itself() -> None:
    size = 200_000
    data = frame(0x82, bytes(size))
    reader = FrameReader(*connection(SERVER, False), size)
    tracemalloc.start()
    try:
        for at in range(0, len(data) - 1, 10):
            reader.receive(data[at : min(at + 10, len(data) - 1)])
            assert reader.next() is None
        assert tracemalloc.get_traced_memory()[1] < 2 * size
    finally:
        tracemalloc.stop()
    reader.receive(data[-1:])
    assert reader.next() == bytes(size)
