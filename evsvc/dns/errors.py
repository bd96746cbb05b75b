"""What can go wrong in DNS: result codes for callbacks, exceptions for the program's own faults.

A lookup's outcome is a code, given to its callback; nothing that a nameserver or a client sends is
ever raised.  Exceptions are for calls that cannot be right, and for files that cannot be read.
"""

import enum

from ..core import ArgumentError, Error, StateError


class DnsResult(enum.IntEnum):
    """The `result` argument of a lookup's callback; 1 to 5 are the rcodes of RFC 1035 4.1.1.

    DNS_ERR_SYSTEM is ours: the process has no descriptor left to ask with.
    """

    DNS_ERR_NONE = 0
    DNS_ERR_FORMAT = 1
    DNS_ERR_SERVERFAILED = 2
    DNS_ERR_NOTEXIST = 3
    DNS_ERR_NOTIMPL = 4
    DNS_ERR_REFUSED = 5
    DNS_ERR_TRUNCATED = 65
    DNS_ERR_UNKNOWN = 66
    DNS_ERR_TIMEOUT = 67
    DNS_ERR_SHUTDOWN = 68
    DNS_ERR_CANCEL = 69
    DNS_ERR_NODATA = 70
    DNS_ERR_SYSTEM = 71


DNS_ERR_NONE = DnsResult.DNS_ERR_NONE
DNS_ERR_FORMAT = DnsResult.DNS_ERR_FORMAT
DNS_ERR_SERVERFAILED = DnsResult.DNS_ERR_SERVERFAILED
DNS_ERR_NOTEXIST = DnsResult.DNS_ERR_NOTEXIST
DNS_ERR_NOTIMPL = DnsResult.DNS_ERR_NOTIMPL
DNS_ERR_REFUSED = DnsResult.DNS_ERR_REFUSED
DNS_ERR_TRUNCATED = DnsResult.DNS_ERR_TRUNCATED
DNS_ERR_UNKNOWN = DnsResult.DNS_ERR_UNKNOWN
DNS_ERR_TIMEOUT = DnsResult.DNS_ERR_TIMEOUT
DNS_ERR_SHUTDOWN = DnsResult.DNS_ERR_SHUTDOWN
DNS_ERR_CANCEL = DnsResult.DNS_ERR_CANCEL
DNS_ERR_NODATA = DnsResult.DNS_ERR_NODATA
DNS_ERR_SYSTEM = DnsResult.DNS_ERR_SYSTEM

_TEXTS: dict[int, str] = {
    DNS_ERR_NONE: "no error",
    DNS_ERR_FORMAT: "misformatted query",
    DNS_ERR_SERVERFAILED: "server failed",
    DNS_ERR_NOTEXIST: "name does not exist",
    DNS_ERR_NOTIMPL: "query not implemented",
    DNS_ERR_REFUSED: "refused",
    DNS_ERR_TRUNCATED: "reply truncated or ill-formed",
    DNS_ERR_UNKNOWN: "unknown",
    DNS_ERR_TIMEOUT: "request timed out",
    DNS_ERR_SHUTDOWN: "dns subsystem shut down",
    DNS_ERR_CANCEL: "dns request canceled",
    DNS_ERR_NODATA: "no records in the reply",
    DNS_ERR_SYSTEM: "the system lacks descriptors or memory",
}


def err_to_string(code: int) -> str:
    """Return the text of a result code (evdns_err_to_string)."""
    return _TEXTS.get(code, "[Unknown error code]")


class DnsError(Error):
    """The root of the exceptions of `evsvc.dns`."""


class DnsArgumentError(DnsError, ArgumentError):
    """A name, address, option or limit that cannot be right; the message holds the value."""


class DnsStateError(DnsError, StateError):
    """The resolver is closed, its queue is full, or the request has been answered already."""


class DnsFileError(DnsError, OSError):
    """A resolv.conf or hosts file cannot be read or is too large; `filename` says which."""
