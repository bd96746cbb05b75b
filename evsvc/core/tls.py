"""TLS without a connection: contexts with sane settings, and an engine between bytes and bytes.

`TlsBufferEvent` takes both.  Does no I/O but for reading the files that it is told to.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Sequence
from os import PathLike, fsencode
from typing import NoReturn

from .errors import ArgumentError, ArgumentTypeError, SocketError
from .flags import SslState

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


class TlsEngine:
    """TLS between bytes and bytes: an SSLObject, and the two ends of its wire.

    incoming: takes what has come from the peer.  outgoing: gives what is to go to it.
    ssl:      the SSLObject, to shake hands, read and write with.

    Raises ArgumentError when the context is not for this side, has to check a host name that is
    not given, or did not make the session; ArgumentTypeError for what is no context or name.
    """

    __slots__ = ("incoming", "outgoing", "ssl")

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        check_context(context)
        check_host(server_hostname)
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        if not server_side and context.check_hostname and not server_hostname:
            raise ArgumentError("the context checks the host name: server_hostname is wanted")
        try:
            self.ssl = context.wrap_bio(
                self.incoming,
                self.outgoing,
                server_side=server_side,
                server_hostname=None if server_side else server_hostname,
                session=session,
            )
        except (TypeError, ValueError, ssl.SSLError) as exc:
            name = f" for {server_hostname!r}" if server_hostname else ""
            raise ArgumentError(f"the context cannot be used{name}: {exc}") from exc

    def close_notify(self) -> None:
        """Write the end of our data (RFC 8446 section 6.1); the peer may go on sending.

        Raises ssl.SSLError when the connection is not in a state to be ended.
        """
        # unwrap() would go on to wait for the peer's own end, and fail on data before it.
        waiting = self.incoming.read()
        try:
            self.ssl.unwrap()
        except ssl.SSLWantReadError:
            pass
        finally:
            self.incoming.write(waiting)


class EngineMaker:
    """Makes the engines of one bufferevent: one for each connection that it has in turn.

    Raises ArgumentError for an unknown state, and when a TlsEngine is not what goes with it;
    ArgumentTypeError for what is no context or name.
    """

    __slots__ = ("_context", "_host", "_session", "state")

    def __init__(
        self,
        context: ssl.SSLContext | TlsEngine,
        state: int,
        server_hostname: str | None,
        session: ssl.SSLSession | None,
    ) -> None:
        try:
            self.state = SslState(state)
        except ValueError:
            raise ArgumentError(f"a BUFFEREVENT_SSL_ state is wanted: {state!r}") from None
        if not isinstance(context, TlsEngine):
            check_context(context)
        check_host(server_hostname)
        is_open = self.state is SslState.BUFFEREVENT_SSL_OPEN
        if isinstance(context, TlsEngine) is not is_open:
            raise ArgumentError(f"a TlsEngine goes with BUFFEREVENT_SSL_OPEN: {context!r}")
        self._context = context
        self._host = server_hostname
        self._session = session

    @property
    def lacks_name(self) -> bool:
        """Whether the context checks a host name that is yet to be said."""
        return (
            self.state is SslState.BUFFEREVENT_SSL_CONNECTING
            and not self._host
            and isinstance(self._context, ssl.SSLContext)
            and self._context.check_hostname
        )

    def make(self, host: str | None = None) -> TlsEngine:
        """Return an engine for a connection to `host`, where no other name was given before.

        Raises as TlsEngine does.
        """
        context = self._context
        if isinstance(context, TlsEngine):
            return context
        return TlsEngine(
            context,
            server_side=self.state is SslState.BUFFEREVENT_SSL_ACCEPTING,
            server_hostname=self._host or host,
            session=self._session,
        )


def check_context(context: object) -> None:
    """Raise ArgumentTypeError for what is no ssl.SSLContext."""
    if not isinstance(context, ssl.SSLContext):
        raise ArgumentTypeError(f"an ssl.SSLContext is wanted, not {context!r}")


def check_host(host: object) -> None:
    """Raise ArgumentTypeError for what is no host name, where None stands for no name."""
    if host is not None and not isinstance(host, (str, bytes)):
        raise ArgumentTypeError(f"a host name is text, not {host!r}")


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
