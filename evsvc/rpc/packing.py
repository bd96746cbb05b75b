"""Compression of calls and replies, where both sides want it (RFC 9110 8.4, 12.5.3).  No I/O.

A client asks by Accept-Encoding for packed replies.  A server says the same way, with each reply,
that it takes packed requests, and gets them from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.checks import check_limits
from ..core.errors import ArgumentError
from ..http.errors import BodyTooLong, InvalidCoding
from ..http.wire import codings
from .errors import PayloadError, one_line
from .limits import PayloadLimits

ACCEPT_ENCODING = "Accept-Encoding"
CONTENT_ENCODING = "Content-Encoding"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackingOptions:
    """How payloads are compressed, and what is taken of the peer's.

    Raises ArgumentError for no coding, one that is not available here, or a number that is not
    positive.

    codings:            the best first; None is what there is of zstd, br, gzip and deflate.
    min_bytes:          a shorter payload stays as it is.
    max_bytes:          so does a longer one, as it would hold the loop.
    max_unpacked_bytes: what one of the peer's may unpack to, as the limits of the codec count
                        when it is unpacked; the same as `PayloadLimits.max_payload_bytes`.
    """

    codings: Sequence[str] | None = None
    min_bytes: int = 1024
    max_bytes: int = 512 * 1024
    max_unpacked_bytes: int = PayloadLimits().max_payload_bytes

    def __post_init__(self) -> None:
        if self.codings is not None and (isinstance(self.codings, str) or not self.codings):
            raise ArgumentError(f"codings are one or more texts: {self.codings!r}")
        for name in self.codings or ():
            if name not in codings.available():
                there = ", ".join(codings.available())
                raise ArgumentError(f"a coding is one of {there} here: {name!r}")
        check_limits(self)


class Packing:
    """Packs and unpacks payloads as the options say.

    accepted: the value of Accept-Encoding that tells the peer what is taken.
    """

    __slots__ = ("_names", "_options", "accepted")

    def __init__(self, options: PackingOptions) -> None:
        self._options = options
        self._names = tuple(options.codings or codings.available())
        self.accepted = ", ".join(self._names)

    def pack(self, payload: bytes, accepted: Sequence[str]) -> tuple[bytes, str | None]:
        """Return a payload for a peer, and its coding, or None where it stays as it is.

        accepted: the values of the peer's Accept-Encoding.
        """
        options = self._options
        if not accepted or not options.min_bytes <= len(payload) <= options.max_bytes:
            return payload, None
        coding = codings.negotiate(accepted, self._names)
        if coding is None or coding == "identity":
            return payload, None
        encoder = codings.encoder(coding)
        packed = encoder.encode(payload) + encoder.finish()
        return (packed, coding) if len(packed) < len(payload) else (payload, None)

    def takes(self, coding: str) -> bool:
        """Whether a value of Content-Encoding is one that is taken."""
        return coding.strip().lower() in self._names

    def unpack(self, payload: bytes, coding: str) -> bytes:
        """Return what a peer has packed.

        Raises PayloadError for a coding that is not taken, what is not packed so, or over a limit.
        """
        if not self.takes(coding):
            raise PayloadError(f"the payload is packed by {one_line(coding)}, not {self.accepted}")
        decoder = codings.decoder(coding, max_bytes=self._options.max_unpacked_bytes)
        try:
            plain = decoder.decode(payload)
            decoder.finish()
        except (InvalidCoding, BodyTooLong) as exc:
            raise PayloadError(f"the payload is not to be unpacked: {exc}") from exc
        return plain
