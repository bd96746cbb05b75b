"""Content codings: gzip, deflate, zstd and br as streams of bytes, and who takes which.  No I/O.

zstd and br are there where their packages are installed: `compression.zstd` (Python 3.14) or
`zstandard`, and `brotli` 1.2 or later, as earlier ones cannot bound what a bomb unpacks to.  They
are loaded when first asked for.

Invariants
    * An encoder's output, all pieces joined, is one whole stream once `finish` has been called;
      after `flush` the peer can unpack everything that was encoded so far.
    * A decoder gives out at most `max_bytes`, and at most `max_ratio` times what it was given (the
      first RATIO_FREE_BYTES aside).  It holds little more than that, whatever it is given.
"""

from __future__ import annotations

import importlib
import re
import zlib
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol

from ...core.errors import ArgumentError, StateError
from ..errors import BodyTooLong, InvalidCoding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_CODINGS: Final = 3
"""How many codings one Content-Encoding may name; each is one more layer of a bomb."""

RATIO_FREE_BYTES: Final = 1024 * 1024
"""So much may come out before `max_ratio` is looked at: a short text of one letter is no bomb."""

DEFAULT_MAX_RATIO: Final = 200.0
"""Texts shrink to a tenth, logs to a hundredth; deflate's bombs unpack to 1,000 times."""

# What a decoder is given at once.  A gzip member, empty, is 20 bytes, and each copies what is
# behind it: the pieces keep that from being quadratic.
_PIECE_BYTES: Final = 16 * 1024
# A block of zstd is 4 bytes at least, and 128 KiB at most when unpacked; its package has no bound
# for the output, so that a piece of this size may make 4 MiB before they are counted.
_ZSTD_PIECE_BYTES: Final = 128
# RFC 9659: a decoder must bear windows of 8 MiB, and an encoder must not ask for more.
_ZSTD_WINDOW_BYTES: Final = 8 * 1024 * 1024
# 512 KiB: what a page has in it, and no 4 MiB for each stream that is open.
_BR_WINDOW_LOG: Final = 19

_GZIP_WBITS, _ZLIB_WBITS, _RAW_WBITS = 31, 15, -15

# The lowest, the default and the highest level of each; those of zstd above 19 want larger windows.
_LEVELS: Final = {"gzip": (1, 6, 9), "deflate": (1, 6, 9), "zstd": (1, 3, 19), "br": (0, 4, 11)}

_ALIASES: Final = {"x-gzip": "gzip"}

_ITEM = re.compile(
    r"[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*"
    r"(?:;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?"
)


def acceptable(values: Sequence[str], available: Sequence[str]) -> list[str]:
    """Return those of the `available` codings that Accept-Encoding takes, the best first.

    Of equal ones the first available is better.  Without the field none: a client that says
    nothing may understand nothing.  An item that is none is passed over.  RFC 9110 section 12.5.3.
    """
    quality = _qualities(values)
    other = quality.get("*", 0.0)
    wanted = [(quality.get(name, other), name) for name in available]
    return [name for weight, name in sorted(wanted, key=lambda each: -each[0]) if weight > 0]


def negotiate(values: Sequence[str], available: Sequence[str]) -> str | None:
    """Return the coding for a reply: one of `available`, "identity" for none, or None for 406.

    None: the client takes no coding that there is, and refuses to do without one (`identity;q=0`).
    identity comes before a coding only where the client says that it likes it more.
    """
    quality = _qualities(values)
    best = next(iter(acceptable(values, available)), None)
    plain = quality.get("identity", quality.get("*"))
    if best is None:
        return None if plain == 0 else "identity"
    if quality.get("identity", 0.0) > quality.get(best, quality.get("*", 0.0)):
        return "identity"
    return best


def _qualities(values: Sequence[str]) -> dict[str, float]:
    quality: dict[str, float] = {}
    for item in ",".join(values).split(","):
        found = _ITEM.fullmatch(item)
        if found is not None:
            name = found[1].lower()
            quality[_ALIASES.get(name, name)] = float(found[2] or 1)
    return quality


class Encoder(Protocol):
    """One stream on its way to the peer.  Every call raises StateError after `finish`."""

    def encode(self, data: bytes) -> bytes:
        """Take bytes, and return what is ready of the stream; often nothing."""

    def flush(self) -> bytes:
        """Return what is held back, so that the peer can unpack all that was encoded."""

    def finish(self) -> bytes:
        """Return the end of the stream."""


def available() -> tuple[str, ...]:
    """Return the codings that work here, the best for dynamic replies first."""
    optional = [name for name, there in (("zstd", _zstd()), ("br", _brotli())) if there]
    return (*optional, "gzip", "deflate")


def encoder(name: str, level: int | None = None) -> Encoder:
    """Return the encoder of a new stream.

    level: None is the coding's usual one for what is made on the fly; gzip and deflate have 1 to
    9, zstd 1 to 19, br 0 to 11.  Raises ArgumentError for another, or a coding that is not
    `available`.
    """
    name = _known(name)
    lowest, usual, highest = _LEVELS[name]
    if level is None:
        level = usual
    if not lowest <= level <= highest:
        raise ArgumentError(f"a level of {name} is {lowest} to {highest}: {level!r}")
    if name == "zstd":
        return _PackageEncoder(*_zstd_encoder(level))
    if name == "br":
        stream = _brotli().Compressor(quality=level, lgwin=_BR_WINDOW_LOG)
        return _PackageEncoder(stream.process, stream.flush, stream.finish)
    wbits = _GZIP_WBITS if name == "gzip" else _ZLIB_WBITS
    packer = zlib.compressobj(level, zlib.DEFLATED, wbits)
    return _PackageEncoder(packer.compress, lambda: packer.flush(zlib.Z_SYNC_FLUSH), packer.flush)


def decodable(content_encoding: str) -> bool:
    """Tell whether `decoder` takes this value of Content-Encoding."""
    names = _names(content_encoding)
    return len(names) <= MAX_CODINGS and all(name in ("identity", *available()) for name in names)


def decoder(
    content_encoding: str,
    *,
    max_bytes: int | None = None,
    max_ratio: float | None = DEFAULT_MAX_RATIO,
) -> Decoder:
    """Return the decoder of a new stream.

    content_encoding: one coding, or several with commas, in the order in which they were applied,
    as the header has them.  max_bytes, max_ratio: see `Decoder`; None is unlimited.  Raises
    ArgumentError for a coding that is not `available`, more than MAX_CODINGS, or a bad limit.
    """
    names = _names(content_encoding)
    if len(names) > MAX_CODINGS:
        raise ArgumentError(f"more than {MAX_CODINGS} codings: {content_encoding!r}")
    engines = [_ENGINES[_known(name)]() for name in reversed(names) if name != "identity"]
    return Decoder(engines, max_bytes=max_bytes, max_ratio=max_ratio)


def _names(content_encoding: str) -> list[str]:
    names = [name.strip(" \t").lower() for name in content_encoding.split(",")]
    return [_ALIASES.get(name, name) for name in names if name]


def _known(name: str) -> str:
    known = _ALIASES.get(name.lower(), name.lower())
    if known not in available():
        raise ArgumentError(f"a coding is one of {', '.join(available())} here: {name!r}")
    return known


class _PackageEncoder:
    """An Encoder of three functions."""

    __slots__ = ("_encode", "_finish", "_flush")

    def __init__(
        self,
        encode: Callable[[bytes], bytes],
        flush: Callable[[], bytes],
        finish: Callable[[], bytes],
    ) -> None:
        self._encode: Callable[[bytes], bytes] | None = encode
        self._flush = flush
        self._finish = finish

    def encode(self, data: bytes) -> bytes:
        if self._encode is None:
            raise StateError("the stream is finished")
        return self._encode(data)

    def flush(self) -> bytes:
        if self._encode is None:
            raise StateError("the stream is finished")
        return self._flush()

    def finish(self) -> bytes:
        if self._encode is None:
            raise StateError("the stream is finished")
        self._encode = None
        return self._finish()


class _Engine(Protocol):
    """One layer of a decoder.  is_whole: the stream may end here."""

    is_whole: bool

    def decode(self, data: bytes, most_bytes: int) -> bytes:
        """Unpack a piece.  Stops soon behind `most_bytes` of output; then it is of no more use.

        Raises the error of its package, or ValueError, for what is no such stream.
        """


class Decoder:
    """One stream from the peer: bytes in, unpacked bytes out.

    max_bytes: of all output; one more raises BodyTooLong.  max_ratio: output to input; more, when
    RATIO_FREE_BYTES are out, raises BodyTooLong, too.  None is unlimited.  Raises ArgumentError
    for a limit that is negative.
    """

    __slots__ = ("_engines", "_finished", "_given", "_max_bytes", "_max_ratio", "_taken")

    def __init__(
        self, engines: Sequence[_Engine], *, max_bytes: int | None, max_ratio: float | None
    ) -> None:
        if max_bytes is not None and max_bytes < 0:
            raise ArgumentError(f"max_bytes must not be negative: {max_bytes!r}")
        if max_ratio is not None and not max_ratio > 0:
            raise ArgumentError(f"max_ratio must be positive: {max_ratio!r}")
        self._engines = engines
        self._max_bytes = max_bytes
        self._max_ratio = max_ratio
        self._taken = self._given = 0
        self._finished = False

    def decode(self, data: bytes) -> bytes:
        """Take bytes of the stream, and return what they unpack to; perhaps nothing yet.

        Raises InvalidCoding for what is no such stream, BodyTooLong beyond a limit, StateError
        after `finish`, or after one of these.
        """
        if self._finished:
            raise StateError("the stream is finished")
        out = []
        try:
            for start in range(0, len(data), _PIECE_BYTES):
                piece = data[start : start + _PIECE_BYTES]
                self._taken += len(piece)
                for engine in self._engines:
                    piece = self._decode_layer(engine, piece)
                self._given += len(piece)
                if not self._engines and self._max_bytes is not None:
                    self._check(0, self._max_bytes - self._given)
                out.append(piece)
        except BaseException:
            self._finished = True
            raise
        return b"".join(out)

    def finish(self) -> None:
        """The peer has sent all.  Raises InvalidCoding when the stream is not at its end.

        No bytes at all are a whole stream, of nothing.
        """
        if self._finished:
            raise StateError("the stream is finished")
        self._finished = True
        if self._taken and not all(engine.is_whole for engine in self._engines):
            raise InvalidCoding(f"the stream is cut off after {self._taken} bytes")

    def _decode_layer(self, engine: _Engine, piece: bytes) -> bytes:
        most = self._most_bytes()
        try:
            out = engine.decode(piece, most + 1)
        except _stream_errors() as exc:
            raise InvalidCoding(f"not what Content-Encoding says: {exc}") from exc
        self._check(len(out), most)
        return out

    def _most_bytes(self) -> int:
        """How much may come out yet."""
        most = 1 << 62
        if self._max_ratio is not None:
            most = max(RATIO_FREE_BYTES, int(self._taken * self._max_ratio))
        if self._max_bytes is not None:
            most = min(most, self._max_bytes)
        return most - self._given

    def _check(self, size: int, most: int) -> None:
        if size > most:
            total = self._given + size
            raise BodyTooLong(
                f"{self._taken} bytes unpack to {total} and more; {total - size + most} may"
            )


class _Inflate:
    """gzip, of any number of members (RFC 1952 2.2); zeros may follow, as on tapes."""

    __slots__ = ("_stream", "is_whole")

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP_WBITS)
        self.is_whole = False

    def decode(self, data: bytes, most_bytes: int) -> bytes:
        out = []
        while data:
            if self.is_whole:
                data = data.lstrip(b"\0")
                if not data:
                    break
                self._stream = zlib.decompressobj(_GZIP_WBITS)
            piece = self._stream.decompress(data, most_bytes)
            out.append(piece)
            most_bytes -= len(piece)
            self.is_whole = self._stream.eof
            data = self._stream.unused_data
            if most_bytes <= 0:
                break
        return b"".join(out)


class _Deflate:
    """deflate: in zlib's wrapping, as RFC 9110 8.4.1.2 says, or without, as some servers send it.

    The first two bytes tell: a raw stream would begin with a stored block and odd padding.
    """

    __slots__ = ("_first", "_stream", "is_whole")

    def __init__(self) -> None:
        self._first = b""
        self._stream: Any = None
        self.is_whole = False

    def decode(self, data: bytes, most_bytes: int) -> bytes:
        if self._stream is None:
            data = self._first + data
            if len(data) < 2:
                self._first = data
                return b""
            is_wrapped = data[0] & 0x8F == 8 and int.from_bytes(data[:2]) % 31 == 0
            self._stream = zlib.decompressobj(_ZLIB_WBITS if is_wrapped else _RAW_WBITS)
        if self.is_whole:
            raise ValueError("bytes behind the end of the stream")
        out: bytes = self._stream.decompress(data, most_bytes)
        self.is_whole = self._stream.eof
        if self._stream.unused_data:
            raise ValueError("bytes behind the end of the stream")
        return out


class _Unzstd:
    """zstd, of any number of frames (RFC 8878 3)."""

    __slots__ = ("_new_stream", "_stream", "is_whole")

    def __init__(self) -> None:
        self._new_stream = _zstd_stream_maker()
        self._stream = self._new_stream()
        self.is_whole = False

    def decode(self, data: bytes, most_bytes: int) -> bytes:
        out = []
        for start in range(0, len(data), _ZSTD_PIECE_BYTES):
            piece = data[start : start + _ZSTD_PIECE_BYTES]
            while piece:
                if self.is_whole:
                    self._stream = self._new_stream()
                unpacked = self._stream.decompress(piece)
                out.append(unpacked)
                most_bytes -= len(unpacked)
                self.is_whole = self._stream.eof
                piece = self._stream.unused_data
            if most_bytes <= 0:
                break
        return b"".join(out)


class _Unbrotli:
    """br (RFC 7932)."""

    __slots__ = ("_stream", "is_whole")

    def __init__(self) -> None:
        self._stream = _brotli().Decompressor()
        self.is_whole = False

    def decode(self, data: bytes, most_bytes: int) -> bytes:
        if self.is_whole:
            raise ValueError("bytes behind the end of the stream")
        out = []
        # It asks for more input also while its own buffer has output left, so it is asked again.
        while piece := self._stream.process(data, output_buffer_limit=most_bytes):
            out.append(piece)
            most_bytes -= len(piece)
            if most_bytes <= 0:
                break
            data = b""
        self.is_whole = self._stream.is_finished()
        return b"".join(out)


_ENGINES: Final[dict[str, Callable[[], _Engine]]] = {
    "gzip": _Inflate,
    "deflate": _Deflate,
    "zstd": _Unzstd,
    "br": _Unbrotli,
}


@cache
def _package(name: str) -> Any:
    """Return a package that may be installed, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _zstd() -> Any:
    """Return what speaks zstd: Python's own module or the package."""
    return _package("compression.zstd") or _package("zstandard")


@cache
def _brotli() -> Any:
    """Return the package for br; None where it is missing, or cannot bound its output."""
    package = _package("brotli")
    try:
        package.Decompressor().process(b"", output_buffer_limit=1)
    except (AttributeError, TypeError):
        return None
    return package


@cache
def _stream_errors() -> tuple[type[Exception], ...]:
    errors: list[type[Exception]] = [zlib.error, ValueError]
    if _zstd() is not None:
        errors.append(_zstd().ZstdError)
    if _brotli() is not None:
        errors.append(_brotli().error)
    return tuple(errors)


def _zstd_encoder(
    level: int,
) -> tuple[Callable[[bytes], bytes], Callable[[], bytes], Callable[[], bytes]]:
    zstd = _zstd()
    stream = zstd.ZstdCompressor(level=level)
    if hasattr(stream, "compressobj"):  # the package; else Python's own module
        stream = stream.compressobj()
        return stream.compress, lambda: stream.flush(zstd.COMPRESSOBJ_FLUSH_BLOCK), stream.flush
    return stream.compress, lambda: stream.flush(stream.FLUSH_BLOCK), stream.flush


def _zstd_stream_maker() -> Callable[[], Any]:
    zstd = _zstd()
    if hasattr(zstd, "DecompressionParameter"):
        window = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_BYTES.bit_length() - 1}
        return lambda: zstd.ZstdDecompressor(options=window)
    return zstd.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj  # type: ignore[no-any-return]  # no types without the package
