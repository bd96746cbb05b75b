"""The JSON codec, for whoever calls by hand: a message is an object from field name to value.

Bytes travel as base64, moments as RFC 3339 text.  Strict: UTF-8, a key stands once in its object,
no NaN and no infinity (RFC 8259).
"""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeVar

from ..errors import PayloadError, one_line
from ..limits import PayloadLimits
from ..shapes import Form, MessageShape
from .protocol import unique_keys

Message = TypeVar("Message")


class JsonCodec:
    """Messages as JSON objects, within `limits` in both directions; satisfies `Codec`.

    refuse_unknown: a payload with a field that the message does not have is none.
    """

    __slots__ = ("limits", "refuse_unknown")

    content_type = "application/json"

    def __init__(
        self, limits: PayloadLimits | None = None, *, refuse_unknown: bool = False
    ) -> None:
        self.limits = PayloadLimits() if limits is None else limits
        self.refuse_unknown = refuse_unknown

    def check(self, shape: MessageShape[Any]) -> None:
        """Carries every shape."""

    def encode(self, shape: MessageShape[Message], message: Message) -> bytes:
        """Return the payload.  Raises PayloadError when a value is ill-typed or a limit passed."""
        plain = shape.dump(message, Form(self.limits, is_text=True))
        try:
            text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except ValueError:
            raise PayloadError("JSON has no NaN and no infinity", shape.name) from None
        payload = text.encode()
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
        form = Form.to_read(self.limits, unknown, self.refuse_unknown, is_text=True)
        return shape.load(_parse(payload), form)


def _parse(payload: bytes) -> object:
    try:
        plain: object = json.loads(
            payload.decode(), object_pairs_hook=unique_keys, parse_constant=_refuse_constant
        )
    except PayloadError:
        raise
    except UnicodeDecodeError as exc:
        raise PayloadError(f"the payload is not UTF-8: {exc.reason}") from exc
    except RecursionError:
        raise PayloadError("the payload is nested too deeply") from None
    except ValueError as exc:
        raise PayloadError(f"the payload is not JSON: {one_line(str(exc))}") from exc
    return plain


def _refuse_constant(word: str) -> NoReturn:
    raise PayloadError(f"JSON has no {word}")
