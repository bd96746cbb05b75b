"""TLS on the server's side: contexts by the name asked for, and what is known of a client."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....core import (
    ArgumentError,
    ArgumentTypeError,
    TlsBufferEvent,
    tls,
)

if TYPE_CHECKING:
    from ....core import AbstractBufferEvent
    from ....core.tls import FilePath, Password

# Where an SSLObject keeps the name that its client asked for: on the server's side it has no
# attribute of its own for it.
_ASKED_FOR = "asked_for"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsInfo:
    """What TLS knows of one connection.

    protocol:             such as "TLSv1.3".
    cipher:               its name, such as "TLS_AES_256_GCM_SHA384".
    server_name:          whom the client asked for (SNI), or None.
    alpn:                 the protocol that was agreed on, such as "http/1.1", or None.
    peer_certificate:     the client's, as `ssl.SSLSocket.getpeercert` gives it, or None.
    peer_certificate_der: the same as bytes, or None.
    """

    protocol: str | None
    cipher: str | None
    server_name: str | None
    alpn: str | None
    peer_certificate: dict[str, Any] | None
    peer_certificate_der: bytes | None


class TlsContexts:
    """Certificates by host name, for one port of a server: which one a client gets.

    default: shown to who asks for no name, or for one that has no context; it alone decides
    whether clients are asked for certificates.  refuse_unknown: end the handshake of who asks for
    a name that has no context, with the alert unrecognized_name (RFC 6066 section 3).

    Names can come and go, and certificates be replaced, while it is in use: the next handshake
    sees it, and connections that are there stay as they are.  Raises as `add`, and ArgumentError
    for a default whose `sni_callback` is the program's.
    """

    __slots__ = ("_by_name", "_refuse_unknown", "default")

    def __init__(self, default: ssl.SSLContext, *, refuse_unknown: bool = False) -> None:
        _check_context(default)
        callback = default.sni_callback
        if callback is not None and callback is not _note_name:
            raise ArgumentError(f"the context chooses by name already: {callback!r}")
        self.default = default
        self._refuse_unknown = refuse_unknown
        self._by_name: dict[str, ssl.SSLContext] = {}
        default.sni_callback = self._choose

    def add(self, name: str, context: ssl.SSLContext) -> None:
        """Show the certificate of `context` to who asks for `name`; replaces another one.

        name: a host name, or "*." and a domain, for all names with one label more; ASCII, as
        clients send it.  The application protocols (ALPN) are those of `context`, too.

        Raises ArgumentError for what is no such name, or a context for clients; ArgumentTypeError
        for what is no text or context.
        """
        _check_context(context)
        self._by_name[_key_of(name)] = context

    def remove(self, name: str) -> None:
        """Forget a name.  Raises ArgumentError when it has no context."""
        if self._by_name.pop(_key_of(name), None) is None:
            raise ArgumentError(f"the name has no context: {name!r}")

    def find(self, name: str) -> ssl.SSLContext | None:
        """Return the context of a name, by a wildcard, too, or None.

        An exact name wins.  Source: RFC 9525 section 6.3.
        """
        name = name.lower().removesuffix(".")
        found = self._by_name.get(name)
        return self._by_name.get("*." + name.partition(".")[2]) if found is None else found

    def reload_certificate(
        self,
        cert: FilePath,
        key: FilePath | None = None,
        password: Password | None = None,
        *,
        name: str | None = None,
    ) -> None:
        """Have another certificate shown: that of `name`, or of the default; see `add`.

        When it raises, the one before is still shown: as `evsvc.core.tls.reload_certificate`, and
        ArgumentError for a name without context.
        """
        context = self.default if name is None else self._by_name.get(_key_of(name))
        if context is None:
            raise ArgumentError(f"the name has no context: {name!r}")
        tls.reload_certificate(context, cert, key, password)

    def _choose(
        self, handshake: ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> int | None:
        """Choose for one handshake; an alert's number refuses it."""
        _note_name(handshake, name, context)
        if name is not None:
            found = self.find(name)
            if found is not None:
                handshake.context = found
            elif self._refuse_unknown:
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        return None


def server_side(contexts: ssl.SSLContext | TlsContexts) -> ssl.SSLContext:
    """Return the context that handshakes begin with, for what a program gives as `tls`.

    Raises ArgumentError for a context for clients, ArgumentTypeError for what is neither.
    """
    if isinstance(contexts, TlsContexts):
        return contexts.default
    _check_context(contexts)
    if contexts.sni_callback is None:
        contexts.sni_callback = _note_name
    return contexts


def tls_below(carrier: AbstractBufferEvent) -> TlsBufferEvent | None:
    """Return the TLS that a carrier is or stands on, or None."""
    below: AbstractBufferEvent | None = carrier
    while below is not None and not isinstance(below, TlsBufferEvent):
        below = below.underlying
    return below


def tls_info(carrier: AbstractBufferEvent) -> TlsInfo | None:
    """Return what TLS knows, whatever stands above or below it; None where there is none."""
    below = tls_below(carrier)
    handshake = None if below is None else below.ssl
    if handshake is None:
        return None
    cipher = handshake.cipher()
    return TlsInfo(
        protocol=handshake.version(),
        cipher=None if cipher is None else cipher[0],
        server_name=vars(handshake).get(_ASKED_FOR),
        alpn=handshake.selected_alpn_protocol(),
        peer_certificate=handshake.getpeercert() or None,
        peer_certificate_der=handshake.getpeercert(binary_form=True),
    )


def _note_name(handshake: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
    """Keep the name that a client asks for."""
    vars(handshake)[_ASKED_FOR] = name


def _check_context(context: object) -> None:
    if not isinstance(context, ssl.SSLContext):
        raise ArgumentTypeError(f"a context of TLS is wanted, not {context!r}")
    if context.protocol is ssl.PROTOCOL_TLS_CLIENT:
        raise ArgumentError(f"a context for servers is wanted, not one for clients: {context!r}")


def _key_of(name: object) -> str:
    if not isinstance(name, str):
        raise ArgumentTypeError(f"a host name is text, not {name!r}")
    key = name.lower().removesuffix(".")
    host = key.removeprefix("*.")
    if not host or not host.isascii() or "*" in host or not all(host.split(".")):
        raise ArgumentError(f"a host name in ASCII, or '*.' and a domain, is wanted: {name!r}")
    return key
