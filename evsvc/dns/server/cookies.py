"""Cookies (RFC 7873): by them a client shows that it receives what is sent to its address.

A server's cookie is made as RFC 9018 lays it out, with another hash: version, time, and a hash of
these, of the client's own cookie and address, and of a secret that lives as long as the server.
Does no I/O, reads no clock.
"""

from __future__ import annotations

import hmac
import os
import struct
from hashlib import blake2b

from ..wire.edns import CLIENT_COOKIE_BYTES

SECRET_BYTES = 16
MAX_AGE_S = 3600
"""A cookie counts for so long, as RFC 9018 4.3 wants it."""

_HEAD = struct.Struct("!B3xI")
_VERSION = 1
_HASH_BYTES = 8
_WHOLE_BYTES = CLIENT_COOKIE_BYTES + _HEAD.size + _HASH_BYTES


class CookieMaker:
    """Makes and knows the cookies of one server."""

    __slots__ = ("_secret",)

    def __init__(self) -> None:
        self._secret = os.urandom(SECRET_BYTES)

    def make(self, cookie: bytes, host: str, now: float) -> bytes:
        """Return both cookies, for the cookie that a client has sent from an address."""
        client = cookie[:CLIENT_COOKIE_BYTES]
        head = _HEAD.pack(_VERSION, int(now) & 0xFFFFFFFF)
        return client + head + self._hash(client, head, host)

    def knows(self, cookie: bytes, host: str, now: float) -> bool:
        """Return True for both cookies as `make` has made them for the address, not long ago."""
        if len(cookie) != _WHOLE_BYTES:
            return False
        client, head = cookie[:CLIENT_COOKIE_BYTES], cookie[CLIENT_COOKIE_BYTES:-_HASH_BYTES]
        made = _HEAD.unpack(head)[1]
        if not 0 <= (int(now) - made) & 0xFFFFFFFF <= MAX_AGE_S:
            return False
        return hmac.compare_digest(cookie[-_HASH_BYTES:], self._hash(client, head, host))

    def _hash(self, client: bytes, head: bytes, host: str) -> bytes:
        text = client + head + host.encode()
        return blake2b(text, key=self._secret, digest_size=_HASH_BYTES).digest()
