"""The MessagePack codec: a message is a map from field name to value.

Strict: text must be UTF-8, map keys must be text and stand once, nothing may follow the message,
extension types are not carried.
"""

from __future__ import annotations

from typing import TypeVar

import msgpack  # type: ignore[import-untyped]  # the package ships no annotations

from ..errors import PayloadError
from ..limits import PayloadLimits
from ..shapes import MessageShape

Message = TypeVar("Message")


class MsgpackCodec:
    """Messages as MessagePack maps, within `limits` in both directions; satisfies `Codec`."""

    __slots__ = ("limits",)

    def __init__(self, limits: PayloadLimits | None = None) -> None:
        self.limits = PayloadLimits() if limits is None else limits

    def encode(self, shape: MessageShape[Message], message: Message) -> bytes:
        """Return the payload.  Raises PayloadError when a value is ill-typed or a limit passed."""
        payload: bytes = msgpack.packb(shape.dump(message, self.limits), use_bin_type=True)
        self._check_size(payload)
        return payload

    def decode(self, shape: MessageShape[Message], payload: bytes) -> Message:
        """Return the message.  Raises PayloadError, and nothing else, whatever the bytes are."""
        self._check_size(payload)
        _check_well_formed(payload)
        return shape.load(_unpack(payload), self.limits)

    def _check_size(self, payload: bytes) -> None:
        if len(payload) > self.limits.max_payload_bytes:
            raise PayloadError(
                f"{len(payload)} payload bytes are more than the limit of "
                f"{self.limits.max_payload_bytes}"
            )


def _check_well_formed(payload: bytes) -> None:
    """Raise PayloadError unless the bytes are exactly one complete value.

    Unpacking may reserve room for as many items as an array header claims, level by level: 1 MiB
    of nested headers makes msgpack 1.0.8 ask for more than 2 GiB before it notices that the data
    ends (1.2.4 does not).  Skipping builds nothing, and once it has passed, every item is there.
    """
    unpacker = msgpack.Unpacker(read_size=len(payload) or 1, max_buffer_size=len(payload) or 1)
    unpacker.feed(payload)
    try:
        unpacker.skip()
    except msgpack.OutOfData:
        raise PayloadError("the payload ends inside a value") from None
    except (ValueError, RecursionError) as exc:
        raise _not_msgpack(exc) from exc
    surplus_bytes = len(payload) - unpacker.tell()
    if surplus_bytes:
        raise PayloadError(f"{surplus_bytes} bytes follow the message")


def _unpack(payload: bytes) -> object:
    try:
        plain: object = msgpack.unpackb(
            payload, raw=False, strict_map_key=True, object_pairs_hook=_unique_keys
        )
    except PayloadError:
        raise
    except UnicodeDecodeError as exc:
        raise PayloadError(f"the payload holds text that is not UTF-8: {exc.reason}") from exc
    except (ValueError, RecursionError) as exc:
        raise _not_msgpack(exc) from exc
    return plain


def _unique_keys(pairs: list[tuple[object, object]]) -> dict[object, object]:
    """Build the map.  A repeated key would let two readers see two messages in the same bytes."""
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise PayloadError("a map holds the same key twice")
    return mapping


def _not_msgpack(exc: Exception) -> PayloadError:
    if isinstance(exc, (msgpack.StackError, RecursionError)):
        return PayloadError("the payload is nested too deeply")
    return PayloadError(f"the payload is not MessagePack: {str(exc) or 'format error'}")
