"""permessage-deflate (RFC 7692) as an extension of wsproto: compressed messages, both ways.

wsproto has one of its own.  This one differs where a peer could make use of that: what a message
becomes when it is inflated is bounded while it is inflated, a ping between the fragments of a
compressed message leaves that message alone, and parameters that are none are declined.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, Opcode, RsvBits
from wsproto.utilities import RemoteProtocolError as WsRemoteProtocolError

if TYPE_CHECKING:
    from wsproto.frame_protocol import FrameDecoder, FrameProtocol

MAX_WINDOW_BITS = 15
"""What a window of zlib has at the most; decompressing with it fits whatever the peer uses."""

MIN_WINDOW_BITS = 9
"""RFC 7692 knows 8, too; zlib cannot do that for raw DEFLATE, so that such an offer is declined."""

# What a sync flush ends with, and a message is sent without (RFC 7692 section 7.2.1).
_TAIL = b"\x00\x00\xff\xff"

_FLAGS = frozenset(("server_no_context_takeover", "client_no_context_takeover"))
_WINDOWS = frozenset(("server_max_window_bits", "client_max_window_bits"))
_BITS = re.compile(r'8|9|1[0-5]|"(?:8|9|1[0-5])"')


class Deflate(Extension):
    """One session's permessage-deflate.

    max_message_bytes: of a message that is received, inflated; a longer one ends the session with
    1009.  takeover: whether both sides may remember earlier messages; it compresses better, and
    costs some 300 KiB a session.
    """

    name = "permessage-deflate"

    def __init__(self, max_message_bytes: int, *, takeover: bool = True) -> None:
        self._max_bytes = max_message_bytes
        self._takeover = takeover
        self._enabled = False
        self._forgets = {"server": not takeover, "client": not takeover}
        self._bits = {"server": MAX_WINDOW_BITS, "client": MAX_WINDOW_BITS}
        self._compressor: zlib._Compress | None = None
        self._decompressor: zlib._Decompress | None = None
        self._is_compressed = False  # the message that is being received
        self._is_control = False  # the frame that is being received
        self._left_bytes = 0  # that the message may still become

    def enabled(self) -> bool:
        """Whether both sides have agreed on it."""
        return self._enabled

    def offer(self) -> str:
        """Return the parameters that a client offers."""
        if self._takeover:
            return "client_max_window_bits"
        return "client_max_window_bits; server_no_context_takeover; client_no_context_takeover"

    def accept(self, offer: str) -> str | None:
        """Return the parameters that a server answers a client's offer with; None declines it."""
        asked = parse_parameters(offer)
        if self._enabled or asked is None:
            return None
        bits = int(asked.get("server_max_window_bits") or MAX_WINDOW_BITS)
        if bits < MIN_WINDOW_BITS or asked.get("server_max_window_bits", "") is None:
            return None
        self._enabled = True
        agreed = []
        for side in ("server", "client"):
            self._forgets[side] |= f"{side}_no_context_takeover" in asked
            if self._forgets[side]:
                agreed.append(f"{side}_no_context_takeover")
        self._bits["server"] = bits
        if "server_max_window_bits" in asked:
            agreed.append(f"server_max_window_bits={bits}")
        return "; ".join(agreed)

    def finalize(self, offer: str) -> None:
        """Take what a server has answered; raises wsproto's RemoteProtocolError for what is bad."""
        agreed = parse_parameters(offer)
        windows = {} if agreed is None else {name: agreed[name] for name in _WINDOWS & set(agreed)}
        if agreed is None or None in windows.values() or self._enabled:
            raise WsRemoteProtocolError(f"not an answer to permessage-deflate: {offer!r}")
        bits = int(windows.get("client_max_window_bits") or MAX_WINDOW_BITS)
        if bits < MIN_WINDOW_BITS:
            raise WsRemoteProtocolError(f"a window that zlib cannot do: {offer!r}")
        self._enabled = True
        self._bits["client"] = bits
        self._forgets["server"] = "server_no_context_takeover" in agreed
        self._forgets["client"] |= "client_no_context_takeover" in agreed

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,
    ) -> CloseReason | RsvBits:
        """Note what kind of frame comes; return the reserved bits that it may have."""
        self._is_control = opcode.iscontrol()
        begins = opcode in (Opcode.TEXT, Opcode.BINARY)
        if begins:
            self._is_compressed = rsv.rsv1
            self._left_bytes = self._max_bytes
        return RsvBits(begins, False, False)

    def frame_inbound_payload_data(
        self, proto: FrameDecoder | FrameProtocol, data: bytes
    ) -> bytes | CloseReason:
        """Inflate a piece of a message, within the bound."""
        if self._is_control or not self._is_compressed:
            return data
        return self._inflate(data)

    def frame_inbound_complete(
        self, proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        """Return the end of a message."""
        if self._is_control or not fin or not self._is_compressed:
            return None
        return self._inflate_end(proto.client)

    def unpack(self, payload: bytes, *, is_client: bool) -> bytes | CloseReason:
        """Return what a message of one frame says; not within a message that wsproto has begun."""
        self._left_bytes = self._max_bytes
        data = self._inflate(payload)
        if not isinstance(data, bytes):
            return data
        end = self._inflate_end(is_client)
        return data + end if isinstance(end, bytes) else end

    def _inflate_end(self, is_client: bool) -> bytes | CloseReason:
        data = self._inflate(_TAIL)
        inflater = self._decompressor
        if self._forgets["server" if is_client else "client"] or (inflater and inflater.eof):
            self._decompressor = None
        return data

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        inflater = self._decompressor
        if inflater is None:
            inflater = self._decompressor = zlib.decompressobj(-MAX_WINDOW_BITS)
        if inflater.eof:
            return b""  # a last block: what follows in this message is nothing
        try:
            piece = inflater.decompress(data, self._left_bytes + 1)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        self._left_bytes -= len(piece)
        return piece if self._left_bytes >= 0 else CloseReason.MESSAGE_TOO_BIG

    def frame_outbound(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        data: bytes,
        fin: bool,
    ) -> tuple[RsvBits, bytes]:
        """Compress a frame; each fragment so far that the peer can read it when it has come."""
        if opcode.iscontrol():
            return rsv, data
        if opcode is not Opcode.CONTINUATION:
            rsv = RsvBits(True, rsv.rsv2, rsv.rsv3)
        return rsv, self.pack(data, is_client=proto.client, is_last=fin)

    def pack(self, data: bytes, *, is_client: bool, is_last: bool = True) -> bytes:
        """Return the payload of a frame."""
        side = "client" if is_client else "server"
        deflater = self._compressor
        if deflater is None:
            deflater = self._compressor = zlib.compressobj(
                zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -self._bits[side]
            )
        data = deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)
        if is_last:
            data = data.removesuffix(_TAIL)
            if self._forgets[side]:
                self._compressor = None
        return data


def parse_parameters(text: str) -> dict[str, str | None] | None:
    """Return the parameters behind the extension's name; None where they are not as they must be.

    A window's bits may be missing (None), as in a client's offer.  Source: RFC 7692 section 7.1.
    """
    found: dict[str, str | None] = {}
    for part in text.split(";")[1:]:
        name, equals, value = (each.strip() for each in part.partition("="))
        if name in found or name not in _FLAGS | _WINDOWS:
            return None
        if equals and (name in _FLAGS or not _BITS.fullmatch(value)):
            return None
        found[name] = value.strip('"') if equals else None
    return found
