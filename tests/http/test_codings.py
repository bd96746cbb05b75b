"""Content codings: both ways, in any pieces, and what is refused."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from evsvc.core.errors import ArgumentError, StateError
from evsvc.http.errors import BodyTooLong, InvalidCoding
from evsvc.http.wire import codings
from evsvc.http.wire.codings import (
    MAX_CODINGS,
    RATIO_FREE_BYTES,
    available,
    decodable,
    decoder,
    encoder,
    negotiate,
)

ROOT = Path(__file__).resolve().parent.parent.parent
CODINGS = ("gzip", "deflate", "zstd", "br")
TEXT = b"".join(b"line %d of a text that can be packed\n" % n for n in range(500))

# What others unpack each coding with.
UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    "br": brotli.decompress,
}
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "br": brotli.compress,
}


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-15)


def unpack(coding: str, *pieces: bytes, **limits: float | None) -> bytes:
    stream = decoder(coding, **limits)  # type: ignore[arg-type]  # of two types
    out = b"".join([stream.decode(piece) for piece in pieces])
    stream.finish()
    return out


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def test_all_are_available_where_their_packages_are() -> None:
    assert sorted(available()) == sorted(CODINGS)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_others_unpack_what_is_encoded(coding: str, size: int) -> None:
    stream = encoder(coding)
    packed = b"".join([stream.encode(piece) for piece in in_pieces(TEXT, size)]) + stream.finish()
    assert len(packed) < len(TEXT) / 5
    assert UNPACK[coding](packed) == TEXT


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_what_others_pack_is_decoded(coding: str, size: int) -> None:
    assert unpack(coding, *in_pieces(PACK[coding](TEXT), size)) == TEXT


@pytest.mark.parametrize("coding", CODINGS)
def test_a_flush_makes_all_that_was_encoded_readable(coding: str) -> None:
    packer, unpacker = encoder(coding), decoder(coding)
    for event in (b"data: one\n\n", b"data: two\n\n", b"", TEXT * 20, b"x"):
        assert unpacker.decode(packer.encode(event) + packer.flush()) == event
    assert unpacker.decode(packer.finish()) == b""
    unpacker.finish()


@pytest.mark.parametrize("coding", CODINGS)
def test_nothing_is_a_stream_too(coding: str) -> None:
    packed = encoder(coding).finish()
    assert packed
    assert unpack(coding, packed) == b""
    assert UNPACK[coding](packed) == b""


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.no_cover
@given(data=st.data())
def test_decoding_undoes_encoding(coding: str, data: st.DataObject) -> None:
    pieces = data.draw(st.lists(st.binary(max_size=300)))
    packer = encoder(coding)
    packed = b""
    for piece in pieces:
        packed += packer.encode(piece)
        if data.draw(st.booleans()):
            packed += packer.flush()
    packed += packer.finish()
    size = data.draw(st.integers(1, len(packed)))
    assert unpack(coding, *in_pieces(packed, size)) == b"".join(pieces)


@pytest.mark.parametrize("coding", CODINGS)
@given(garbage=st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else_is_raised(coding: str, garbage: bytes) -> None:
    try:
        out = unpack(coding, garbage)
    except InvalidCoding:
        return
    assert len(out) < 5_000_000


@pytest.mark.parametrize("coding", CODINGS)
def test_a_stream_that_is_cut_off_is_found_at_its_end(coding: str) -> None:
    packed = PACK[coding](TEXT)
    for size in (1, 5, len(packed) // 2, len(packed) - 1):
        stream = decoder(coding)
        stream.decode(packed[:size])
        with pytest.raises(InvalidCoding, match="cut off"):
            stream.finish()


@pytest.mark.parametrize("coding", CODINGS)
def test_a_body_of_no_bytes_is_whole(coding: str) -> None:
    assert unpack(coding) == b""
    assert unpack(coding, b"") == b""


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("size", [1, 10, 100_000])
def test_members_and_frames_are_joined(coding: str, size: int) -> None:
    packed = PACK[coding](b"one ") + PACK[coding](b"") + PACK[coding](b"two")
    assert unpack(coding, *in_pieces(packed, size)) == b"one two"


def test_a_second_member_that_is_cut_off_is_found() -> None:
    with pytest.raises(InvalidCoding, match="cut off"):
        unpack("gzip", gzip.compress(b"one") + gzip.compress(b"two")[:-3])


def test_zeros_may_follow_gzip_and_nothing_else() -> None:
    assert unpack("gzip", gzip.compress(b"x") + b"\0\0", b"\0") == b"x"
    with pytest.raises(InvalidCoding):
        unpack("gzip", gzip.compress(b"x") + b"garbage")


@pytest.mark.parametrize("coding", ["deflate", "br"])
@pytest.mark.parametrize("together", [True, False])
def test_nothing_may_follow_the_others(coding: str, together: bool) -> None:
    packed = PACK[coding](b"x")
    with pytest.raises(InvalidCoding):
        unpack(coding, *([packed + b"more"] if together else [packed, b"more"]))


@pytest.mark.parametrize("data", [b"", b"x", TEXT, b"\x08\x1d" * 9])
@pytest.mark.parametrize("size", [1, 2, 100_000])
def test_deflate_is_taken_without_its_wrapping(data: bytes, size: int) -> None:
    assert unpack("deflate", *in_pieces(raw_deflate(data), size)) == data
    stored = zlib.compress(data, 0, wbits=-15)
    assert unpack("deflate", *in_pieces(stored, size)) == data


def test_several_codings_are_undone_in_the_order_of_the_header() -> None:
    assert unpack("gzip, br", brotli.compress(gzip.compress(TEXT))) == TEXT
    assert unpack("GZIP ,identity,\tX-Gzip", gzip.compress(gzip.compress(TEXT))) == TEXT


def test_more_codings_than_the_limit_are_refused() -> None:
    at_limit = ",".join(["gzip"] * MAX_CODINGS)
    assert decodable(at_limit)
    decoder(at_limit)
    assert not decodable(at_limit + ",gzip")
    with pytest.raises(ArgumentError, match="more than 3"):
        decoder(at_limit + ",gzip")


def test_identity_is_passed_on_within_its_limit() -> None:
    assert unpack("identity", b"abc", max_bytes=3) == b"abc"
    with pytest.raises(BodyTooLong):
        unpack("identity", b"ab", b"cd", max_bytes=3)


def test_what_can_be_decoded() -> None:
    assert decodable("gzip")
    assert decodable("")
    assert decodable("identity, X-GZIP")
    assert not decodable("compress")
    assert not decodable("gzip, aws-chunked")


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [1, 100_000])
def test_max_bytes_at_the_limit_and_beyond(coding: str, size: int) -> None:
    pieces = in_pieces(PACK[coding](TEXT), size)
    assert unpack(coding, *pieces, max_bytes=len(TEXT)) == TEXT
    with pytest.raises(BodyTooLong) as caught:
        unpack(coding, *pieces, max_bytes=len(TEXT) - 1)
    assert caught.value.status == 413


@pytest.mark.parametrize("coding", CODINGS)
def test_max_ratio_at_the_limit_and_beyond(coding: str) -> None:
    data = bytes(4 * RATIO_FREE_BYTES)
    packed = PACK[coding](data)
    ratio = len(data) / len(packed)
    assert unpack(coding, packed, max_ratio=ratio * 1.0001) == data
    with pytest.raises(BodyTooLong):
        unpack(coding, packed, max_ratio=ratio * 0.999)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_little_of_a_bomb_is_none(coding: str) -> None:
    at_limit = bytes(RATIO_FREE_BYTES)
    assert unpack(coding, PACK[coding](at_limit), max_ratio=1) == at_limit
    with pytest.raises(BodyTooLong):
        unpack(coding, PACK[coding](at_limit + b"\0"), max_ratio=1)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_bomb_is_stopped_before_it_has_unpacked(coding: str) -> None:
    """64 MiB of zeros: what is held when it is refused is a fraction, and no more comes."""
    packed = PACK[coding](bytes(64 * 1024 * 1024))
    stream = decoder(coding, max_bytes=1000)
    with pytest.raises(BodyTooLong) as caught:
        stream.decode(packed)
    unpacked = int(str(caught.value).split()[4])
    assert 1000 < unpacked < 8 * 1024 * 1024
    with pytest.raises(StateError):
        stream.decode(b"x")


def test_a_bomb_in_a_bomb_is_counted_against_what_came() -> None:
    inner = gzip.compress(bytes(64 * 1024 * 1024))
    with pytest.raises(BodyTooLong):
        unpack("gzip, gzip", gzip.compress(inner))


def test_a_window_of_more_than_8_mib_is_refused() -> None:
    def pack(window_log: int) -> bytes:
        parameters = zstandard.ZstdCompressionParameters(window_log=window_log)
        packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        return packer.compress(TEXT) + packer.flush()

    assert unpack("zstd", pack(23)) == TEXT
    with pytest.raises(InvalidCoding):
        unpack("zstd", pack(24))


@pytest.mark.parametrize("max_bytes", [-1])
def test_a_negative_limit_is_refused(max_bytes: int) -> None:
    with pytest.raises(ArgumentError, match="-1"):
        decoder("gzip", max_bytes=max_bytes)
    with pytest.raises(ArgumentError, match="0"):
        decoder("gzip", max_ratio=0)


@pytest.mark.parametrize("name", ["compress", "", "gzip, br"])
def test_an_unknown_coding_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="one of"):
        encoder(name)


@pytest.mark.parametrize(
    ("coding", "lowest", "highest"),
    [("gzip", 1, 9), ("deflate", 1, 9), ("zstd", 1, 19), ("br", 0, 11)],
)
def test_levels_at_their_limits_and_beyond(coding: str, lowest: int, highest: int) -> None:
    for level in (lowest, highest):
        packer = encoder(coding, level)
        assert UNPACK[coding](packer.encode(TEXT) + packer.finish()) == TEXT
    for level in (lowest - 1, highest + 1):
        with pytest.raises(ArgumentError, match=str(level)):
            encoder(coding, level)


@pytest.mark.parametrize("coding", CODINGS)
def test_nothing_follows_the_end(coding: str) -> None:
    packer, unpacker = encoder(coding), decoder(coding)
    packer.finish()
    unpacker.finish()
    for call in (packer.finish, packer.flush, unpacker.finish):
        with pytest.raises(StateError):
            call()
    for call in (packer.encode, unpacker.decode):  # type: ignore[assignment]  # one argument more
        with pytest.raises(StateError):
            call(b"x")  # type: ignore[call-arg]  # see above


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], "identity"),
        ([""], "identity"),
        (["gzip"], "gzip"),
        (["gzip", "br"], "br"),
        (["gzip, br;q=0.9"], "gzip"),
        (["*"], "br"),
        (["identity"], "identity"),
        (["gzip;q=0"], "identity"),
        (["*;q=0"], None),
        (["identity;q=0"], None),
        (["identity;q=0, compress"], None),
        (["identity;q=0, gzip;Q=0.001"], "gzip"),
        (["*;q=0, identity"], "identity"),
        (["*;q=0, identity;q=0.1"], "identity"),
        (["gzip;q=0.5, identity"], "identity"),
        (["gzip, identity"], "gzip"),
        (["*;q=0.5, identity;q=0.8"], "identity"),
    ],
)
def test_negotiation(values: list[str], expected: str | None) -> None:
    assert negotiate(values, ("br", "gzip")) == expected


class Absent:
    """Stands for a machine without the optional packages."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, packages: dict[str, object]) -> None:
        self.caches = (codings._brotli, codings._stream_errors)
        monkeypatch.setattr(codings, "_package", packages.get)
        self.clear()

    def clear(self) -> None:
        for each in self.caches:
            each.cache_clear()


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch):
    stands = []

    def have(**packages: object) -> None:
        stands.append(Absent(monkeypatch, packages))

    yield have
    for stand in stands:
        stand.clear()


def test_without_the_packages_there_is_no_zstd_and_no_br(packages) -> None:
    packages()
    assert available() == ("gzip", "deflate")
    assert not decodable("br")
    assert unpack("gzip", gzip.compress(b"x")) == b"x"
    for name in ("zstd", "br"):
        with pytest.raises(ArgumentError, match="gzip, deflate here"):
            encoder(name)
        with pytest.raises(ArgumentError, match="gzip, deflate here"):
            decoder(name)


def test_a_brotli_that_cannot_bound_its_output_is_none(packages) -> None:
    class Old:
        class Decompressor:
            def process(self, data: bytes) -> bytes:
                return b""

    packages(brotli=Old)
    assert "br" not in available()


def test_the_packages_are_not_loaded_before_they_are_asked_for() -> None:
    program = (
        "import sys, evsvc.http.wire.codings as c; names = {'brotli', 'zstandard'};"
        "assert not names & set(sys.modules); c.available(); assert names & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
