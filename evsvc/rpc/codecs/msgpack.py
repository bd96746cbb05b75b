"""The MessagePack codec: a message is a map from field name to value.

Strict: text must be UTF-8, map keys must be text and stand once, nothing may follow the message,
extension types are not carried, but for timestamps.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgpack  # type: ignore[import-untyped]  # the package ships no annotations

from ..compiled import MISS, fast_forms
from ..errors import PayloadError
from ..limits import PayloadLimits
from ..shapes import Form, MessageShape
from .protocol import unique_keys

Message = TypeVar("Message")

# In so few bytes, headers that claim much cost less than a megabyte; see `_check_well_formed`.
_HARMLESS_BYTES = 512

_TO_DATETIME = 3  # what msgpack is to make of its timestamps


class MsgpackCodec:
    """Messages as MessagePack maps, within `limits` in both directions; satisfies `Codec`.

    refuse_unknown: a payload with a field that the message does not have is none.
    """

    __slots__ = ("limits", "refuse_unknown")

    content_type = "application/msgpack"

    def __init__(
        self, limits: PayloadLimits | None = None, *, refuse_unknown: bool = False
    ) -> None:
        self.limits = PayloadLimits() if limits is None else limits
        self.refuse_unknown = refuse_unknown

    def check(self, shape: MessageShape[Any]) -> None:
        """Carries every shape."""

    def encode(self, shape: MessageShape[Message], message: Message) -> bytes:
        """Return the payload.  Raises PayloadError when a value is ill-typed or a limit passed."""
        plain = fast_forms(shape).dump(message, self.limits, 1)
        if plain is MISS:
            plain = shape.dump(message, Form(self.limits))
        payload: bytes = msgpack.packb(plain, use_bin_type=True, datetime=True)
        self.limits.check_size(payload)
        return payload

    def decode(
        self,
        shape: MessageShape[Message],
        payload: bytes,
        unknown: dict[str, object] | None = None,
    ) -> Message:
        """Return the message.  Raises PayloadError, and nothing else, whatever the bytes are."""
        self.limits.check_size(payload)
        if len(payload) > _HARMLESS_BYTES:
            _check_well_formed(payload)
        plain = _unpack(payload)
        message: Message = fast_forms(shape).load(plain, self.limits, 1)
        if message is MISS:
            form = Form.to_read(self.limits, unknown, self.refuse_unknown)
            message = shape.load(plain, form)
        return message


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
            payload,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=unique_keys,
            timestamp=_TO_DATETIME,
        )
    except PayloadError:
        raise
    except UnicodeDecodeError as exc:
        raise PayloadError(f"the payload holds text that is not UTF-8: {exc.reason}") from exc
    except (ValueError, OverflowError, RecursionError) as exc:
        _check_well_formed(payload)  # which may say it better
        raise _not_msgpack(exc) from exc
    return plain


def _not_msgpack(exc: Exception) -> PayloadError:
    if isinstance(exc, (msgpack.StackError, RecursionError)):
        return PayloadError("the payload is nested too deeply")
    return PayloadError(f"the payload is not MessagePack: {str(exc) or 'format error'}")
