"""Contexts of TLS with sane settings, for clients and servers.

`TlsBufferEvent` takes them, as does the engine without a connection, TlsEngine.  Does no I/O but
for reading the files that it is told to.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Sequence
from os import PathLike, fsencode
from typing import NoReturn

from .errors import ArgumentError, ArgumentTypeError, SocketError
from .tls_engine import TlsEngine, check_context

__all__ = ["TlsEngine", "client_context", "reload_certificate", "server_context"]

FilePath = str | bytes | PathLike[str] | PathLike[bytes]
Password = str | bytes | bytearray | Callable[[], str | bytes | bytearray]

MAX_ALPN_NAME_BYTES = 255
MAX_ALPN_LIST_BYTES = 65_535
"""The names of a list with one byte of length before each (RFC 7301 section 3.1)."""


def client_context(
    *,
    cafile: FilePath | None = None,
    cadata: str | bytes | None = None,
    cert: FilePath | None = None,
    key: FilePath | None = None,
    password: Password | None = None,
    alpn: Sequence[str] = (),
) -> ssl.SSLContext:
    """Return a context for clients: TLS 1.2 or later, the server verified with its host name.

    cafile, cadata: whom to trust (PEM); without them, whom the system trusts.
    cert, key:      the client's own certificate chain and its key (PEM files), if it has one.
    alpn:           application protocols to offer, the best first (RFC 7301).

    Raises SocketError for a file that cannot be used, ArgumentError for a bad ALPN name, for no
    certificate in `cadata`, for a key without certificate, or for an encrypted key without
    password; ArgumentTypeError for what is no path, text or password.
    """
    if cafile is not None:
        _check_path("cafile", cafile)
    if cadata is not None:
        _check_cadata(cadata)
    if key is not None and cert is None:
        _check_path("key", key)
        raise ArgumentError(f"a key goes with a certificate: {key!r}")
    try:
        context = ssl.create_default_context(cafile=cafile, cadata=cadata)
    except OSError as exc:
        raise _unusable("trust", cafile or "the given certificates", exc) from exc
    return _settled(context, cert, key, password, alpn)


def server_context(
    cert: FilePath,
    key: FilePath | None = None,
    *,
    password: Password | None = None,
    client_cafile: FilePath | None = None,
    alpn: Sequence[str] = (),
) -> ssl.SSLContext:
    """Return a context for servers: TLS 1.2 or later.

    cert, key:     the certificate chain and its key (PEM files); one file may hold both.
    client_cafile: whom clients' certificates must come from; without it none is asked for.
    alpn:          application protocols that the server speaks, the best first (RFC 7301).

    Raises as `client_context` does.
    """
    _check_path("cert", cert)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if client_cafile is not None:
        _check_path("client_cafile", client_cafile)
        try:
            context.load_verify_locations(client_cafile)
        except OSError as exc:
            raise _unusable("trust", client_cafile, exc) from exc
        context.verify_mode = ssl.CERT_REQUIRED
    return _settled(context, cert, key, password, alpn)


def reload_certificate(
    context: ssl.SSLContext,
    cert: FilePath,
    key: FilePath | None = None,
    password: Password | None = None,
) -> None:
    """Have a context in use show another certificate, from the next handshake on.

    Connections that are there stay as they are.  The files are tried first: when this raises, as
    `server_context` does, the context still has the certificate that it had.  Raises
    ArgumentTypeError for what is no context, too.
    """
    check_context(context)
    _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), cert, key, password)
    _load(context, cert, key, password)


def _settled(
    context: ssl.SSLContext,
    cert: FilePath | None,
    key: FilePath | None,
    password: Password | None,
    alpn: Sequence[str],
) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    if cert is not None:
        _load(context, cert, key, password)
    if alpn:
        context.set_alpn_protocols(_checked_alpn(alpn))
    return context


def _checked_alpn(alpn: Sequence[str]) -> list[str]:
    if isinstance(alpn, str):
        raise ArgumentError(f"ALPN names are a list, not one name: {alpn!r}")
    if not isinstance(alpn, Iterable):
        raise ArgumentTypeError(f"ALPN names are a list, not {alpn!r}")
    names = list(alpn)
    for name in names:
        if not isinstance(name, str):
            raise ArgumentTypeError(f"an ALPN name is text, not {name!r}")
        if not (name.isascii() and 0 < len(name) <= MAX_ALPN_NAME_BYTES):
            raise ArgumentError(f"an ALPN name has 1 to 255 ASCII characters: {name!r}")
    size = sum(1 + len(name) for name in names)
    if size > MAX_ALPN_LIST_BYTES:
        raise ArgumentError(f"ALPN names are {MAX_ALPN_LIST_BYTES} bytes at most: {size}")
    return names


def _check_path(what: str, path: object) -> None:
    if not isinstance(path, (str, bytes, PathLike)):
        raise ArgumentTypeError(f"{what} is the path of a file, not {path!r}")
    text = fsencode(path)
    if not text or b"\0" in text:  # an empty one is none to OpenSSL: the system would be trusted
        raise ArgumentError(f"{what} is a path that is not empty, without NUL: {path!r}")


def _check_cadata(cadata: object) -> None:
    if not isinstance(cadata, (str, bytes, bytearray, memoryview)):
        raise ArgumentTypeError(f"cadata is text or bytes, not {cadata!r}")
    if not cadata:
        raise ArgumentError(f"certificates to trust are wanted: {cadata!r}")
    if isinstance(cadata, str) and not cadata.isascii():
        raise ArgumentError(f"certificates as text are ASCII: {cadata!r}")


def _load(
    context: ssl.SSLContext, cert: FilePath, key: FilePath | None, password: Password | None
) -> None:
    _check_path("cert", cert)
    if key is not None:
        _check_path("key", key)
    if not (
        password is None or callable(password) or isinstance(password, (str, bytes, bytearray))
    ):
        raise ArgumentTypeError(
            f"a password is text, bytes or a function, not {type(password).__name__}"
        )
    try:
        context.load_cert_chain(cert, key, password or _ask_nobody)
    except OSError as exc:
        raise _unusable("use", cert if key is None else (cert, key), exc) from exc


def _ask_nobody() -> NoReturn:
    """Stand in for OpenSSL's question at the terminal, which would block the loop."""
    raise ArgumentError("the key is encrypted: a password is wanted")


def _unusable(verb: str, files: object, exc: OSError) -> SocketError:
    text = f"cannot {verb} {files!r}: {exc.strerror or exc}"
    if isinstance(exc, ssl.SSLError):
        return SocketError(text)  # what it has for errno is none
    return SocketError(exc.errno, text)
