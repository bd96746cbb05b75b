"""Where a response sends its client, and whether to go there (RFC 9110 15.4).  Does no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ...core import ArgumentError
from ..errors import RemoteProtocolError
from .target import Target, resolve

# These say where the answer is, which a GET brings; POST is turned into GET by the older two, too,
# as all clients do (RFC 9110 15.4.2 and 15.4.3).
_SEE_OTHER = 303
_OLD = frozenset((301, 302))
_KEEPS_METHOD = frozenset((307, 308))
REDIRECT_STATUSES = frozenset((_SEE_OTHER, *_OLD, *_KEEPS_METHOD))

# Meant for the server that the program named, and for no other.
SECRET_FIELDS = frozenset(("authorization", "cookie", "proxy-authorization"))
# They describe a body that is not sent any more.
BODY_FIELDS = frozenset(
    ("content-type", "content-length", "content-encoding", "content-language", "expect")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedirectPolicy:
    """How far redirects are followed.  Raises ArgumentError for a negative number.

    max_redirects:   of one request; one more fails it, 0 follows none and gives the redirect.
    allow_downgrade: from https to http; else that fails the request.

    Authorization and Cookie of the program never go to another origin.
    """

    max_redirects: int = 10
    allow_downgrade: bool = False

    def __post_init__(self) -> None:
        if self.max_redirects < 0:
            raise ArgumentError(f"max_redirects is not negative: {self.max_redirects!r}")


class RedirectRefused(RemoteProtocolError):
    """A redirect was not followed: there were too many, or it leads where it must not."""


class Redirect(NamedTuple):
    """The request that follows: where, by which method, with the body or without.

    keeps_secrets: whether it goes to the origin before.
    """

    target: Target
    method: str
    keeps_body: bool
    keeps_secrets: bool


def follow(
    policy: RedirectPolicy,
    target: Target,
    method: str,
    status: int,
    location: str | None,
    followed: int,
) -> Redirect | None:
    """Return the request that follows a response, or None where it is the answer.

    followed: how many redirects there were before.  Raises RedirectRefused by the policy, or for a
    Location that leads nowhere.
    """
    if status not in REDIRECT_STATUSES or location is None or not policy.max_redirects:
        return None
    if followed >= policy.max_redirects:
        raise RedirectRefused(f"more than {policy.max_redirects} redirects, the last to {location}")
    try:
        there = resolve(target, location)
    except (ArgumentError, ValueError) as exc:
        raise RedirectRefused(f"a redirect that leads nowhere: {location!r}: {exc}") from None
    if target.origin.is_secure and not there.origin.is_secure and not policy.allow_downgrade:
        raise RedirectRefused(f"a redirect from https to http: {there.url}")
    same_origin = there.origin == target.origin
    if not same_origin:
        # A server tells us no secrets for another.
        there = Target(there.origin, there.path, None, there.fragment)
    keeps_body = status in _KEEPS_METHOD
    if (status == _SEE_OTHER and method != "HEAD") or (status in _OLD and method == "POST"):
        method = "GET"
    elif status in _OLD:
        keeps_body = True
    return Redirect(there, method, keeps_body, same_origin)
