"""What a client sends: bytes, JSON, a form, several parts, or pieces as they come.

A body can be made anew, as a redirect may want it once more; one that comes in pieces cannot.
"""

from __future__ import annotations

import json as json_module
import os
import secrets
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlencode

from ...core import ArgumentError, ArgumentTypeError, EvBuffer
from ..files.content_types import content_type_of
from .upload import Producer

if TYPE_CHECKING:
    from .request import HttpRequest

Form = Mapping[str, str] | Iterable[tuple[str, str]]


class Body(Protocol):
    """What can be put into a request.

    content_type: None where the program names it itself.  can_be_repeated: whether `put` may be
    called once more.
    """

    @property
    def content_type(self) -> str | None: ...

    @property
    def can_be_repeated(self) -> bool: ...

    def put(self, request: HttpRequest) -> None:
        """Give a request that is not made yet this body."""


class BytesBody(NamedTuple):
    """Bytes, of a content type or none."""

    data: bytes
    content_type: str | None = None
    can_be_repeated: bool = True

    def put(self, request: HttpRequest) -> None:
        """Give a request that is not made yet this body."""
        request.output_buffer.add(self.data)


class StreamedBody(NamedTuple):
    """Pieces, as the program gives them; see `HttpRequest.stream_body`."""

    producer: Producer
    length: int | None
    arg: Any
    content_type: str | None = None
    can_be_repeated: bool = False

    def put(self, request: HttpRequest) -> None:
        """Give a request that is not made yet this body."""
        request.stream_body(self.producer, self.length, self.arg)


class _Part(NamedTuple):
    """One part: its head, and its bytes or where they are."""

    head: bytes
    data: bytes
    path: str | None
    size: int


class Multipart:
    """Several parts in one body: fields and files (RFC 7578).

    Files are not read here: they are sent from the disk, whatever their size.
    """

    can_be_repeated = True

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self._boundary = f"evsvc-{secrets.token_hex(16)}"

    @property
    def content_type(self) -> str:
        """The Content-Type, with the boundary."""
        return f"multipart/form-data; boundary={self._boundary}"

    def add_field(self, name: str, value: str | bytes) -> None:
        """Add a field.  Raises ArgumentTypeError for a value that is neither text nor bytes."""
        if not isinstance(value, (str, bytes)):
            raise ArgumentTypeError(f"a field is text or bytes: {value!r}")
        data = value.encode() if isinstance(value, str) else value
        self._add(f"name={_quoted(name)}", None, data, None, len(data))

    def add_file(
        self,
        name: str,
        file: str | PathLike[str] | bytes,
        filename: str | None = None,
        content_type: str | None = None,
    ) -> None:
        """Add a file: a path, or its bytes.

        filename: what the server is told; the path's last part, or "file".  content_type: by the
        name's ending if it is not given.  Raises OSError when there is no such file.
        """
        if isinstance(file, bytes):
            data, path, size, name_of_file = file, None, len(file), filename or "file"
        else:
            path = os.fspath(file)
            data, size, name_of_file = (
                b"",
                os.stat(path).st_size,
                filename or os.path.basename(path),
            )
        content_type = content_type or content_type_of(name_of_file)
        words = f"name={_quoted(name)}; filename={_quoted(name_of_file)}"
        self._add(words, content_type, data, path, size)

    def put(self, request: HttpRequest) -> None:
        """Give a request that is not made yet this body.

        Raises OSError when a file cannot be opened, ArgumentError when it has become shorter.
        """
        body = request.output_buffer
        for part in self._parts:
            body.add(part.head)
            if part.path is None:
                body.add(part.data)
            elif part.size:
                _add_file(body, part.path, part.size)
            body.add(b"\r\n")
        body.add(f"--{self._boundary}--\r\n".encode())

    def _add(
        self, words: str, content_type: str | None, data: bytes, path: str | None, size: int
    ) -> None:
        if content_type is not None and not (content_type.isascii() and content_type.isprintable()):
            raise ArgumentError(f"not a content type: {content_type!r}")
        type_line = "" if content_type is None else f"Content-Type: {content_type}\r\n"
        head = f"--{self._boundary}\r\nContent-Disposition: form-data; {words}\r\n{type_line}\r\n"
        self._parts.append(_Part(head.encode(), data, path, size))


def _add_file(body: EvBuffer, path: str, size: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        body.add_file(descriptor, 0, size)  # which closes it when all is sent
    except BaseException:
        os.close(descriptor)
        raise


def _quoted(text: str) -> str:
    """Quote a name as browsers do (WHATWG, multipart/form-data)."""
    escaped = text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    return f'"{escaped}"'


def json_body(value: object) -> BytesBody:
    """Return a value as JSON.  Raises ArgumentTypeError for what is none."""
    try:
        text = json_module.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as exc:
        raise ArgumentTypeError(f"not to be written as JSON: {exc}") from None
    return BytesBody(text.encode(), "application/json")


def form_body(form: Form) -> BytesBody:
    """Return a form as HTML's are sent (application/x-www-form-urlencoded)."""
    items = list(form.items() if isinstance(form, Mapping) else form)
    return BytesBody(urlencode(items).encode(), "application/x-www-form-urlencoded")
