"""Who we are: what goes into Authorization and Proxy-Authorization (RFC 7617, RFC 6750)."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from ...core import ArgumentError
from ..query import uridecode
from ..wire.headers import Headers


@dataclass(frozen=True, slots=True)
class BasicAuth:
    """A name and a password.  Raises ArgumentError for a name with a colon."""

    user: str
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if ":" in self.user:
            raise ArgumentError(f"the name of a user has no colon: {self.user!r}")

    def field_value(self) -> str:
        """Return the value of the field."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class BearerAuth:
    """A token.  Raises ArgumentError for what no field can hold."""

    token: str = field(repr=False)

    def __post_init__(self) -> None:
        if not self.token or not self.token.isascii() or not self.token.isprintable():
            raise ArgumentError("a bearer token is printable ASCII")
        Headers((("Authorization", self.field_value()),))

    def field_value(self) -> str:
        """Return the value of the field."""
        return f"Bearer {self.token}"


Authorization = BasicAuth | BearerAuth


def basic_of_userinfo(userinfo: str | None) -> BasicAuth | None:
    """Return what stands before the host of a URL, percent-decoded; None where nothing does."""
    if not userinfo:
        return None
    user, _, password = userinfo.partition(":")
    return BasicAuth(*(uridecode(part).decode(errors="replace") for part in (user, password)))
