"""The media type of a file, by its name."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Mapping
from types import MappingProxyType

DEFAULT_TYPE = "application/octet-stream"
_COMPRESSED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2"}

# Python's own table, and not the system's: the same everywhere.
_types = mimetypes.MimeTypes(filenames=())
for _type, _extension in (
    ("application/wasm", ".wasm"),
    ("font/woff2", ".woff2"),
    ("image/avif", ".avif"),
    ("image/webp", ".webp"),
    ("text/javascript", ".js"),
    ("text/javascript", ".mjs"),
    ("text/markdown", ".md"),
):
    _types.add_type(_type, _extension)


def content_type_of(name: str, own: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the Content-Type for a file of this name; text is said to be UTF-8.

    own: types by extension, such as {".log": "text/plain"}, that go before, and as they are.
    A name that tells a compression, such as `a.tar.gz`, is the compressed thing itself.
    """
    if own and (kind := own.get(os.path.splitext(name)[1].lower())) is not None:
        return kind
    kind, coding = _types.guess_type(name, strict=False)
    if coding is not None:
        return _COMPRESSED.get(coding, DEFAULT_TYPE)
    if kind is None:
        return DEFAULT_TYPE
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
