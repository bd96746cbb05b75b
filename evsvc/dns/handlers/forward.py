"""DnsForwarder: a handler that asks a resolver, and answers what that has found."""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..constants import (
    DNS_QUERY_NO_SEARCH,
    EVDNS_ANSWER_SECTION,
    EVDNS_AUTHORITY_SECTION,
    EVDNS_CLASS_INET,
    EVDNS_FLAGS_AD,
    EVDNS_FLAGS_RD,
    EVDNS_TYPE_A,
    EVDNS_TYPE_AAAA,
)
from ..errors import (
    DNS_ERR_NODATA,
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    DNS_ERR_NOTIMPL,
    DNS_ERR_REFUSED,
    DNS_ERR_SERVERFAILED,
    DnsArgumentError,
    DnsResult,
    DnsStateError,
    err_to_string,
)
from ..wire.names import parse_name
from ..wire.records import Caa, Mx, Record, Soa, Srv, Svcb
from ..wire.replies import AD, RD
from .networks import Networks
from .zone import NOT_AUTHORITATIVE, PROHIBITED

if TYPE_CHECKING:
    from ..resolver.answer import Answer
    from ..server.request import DnsServerRequest

log = logging.getLogger("evsvc.dns")

NOT_SUPPORTED, NO_REACHABLE_AUTHORITY = 21, 22
"""Info codes of extended errors (RFC 8914 section 4)."""

LOCAL_NETWORKS = (
    "127.0.0.0/8",
    "::1",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "fe80::/10",
    "fc00::/7",
)
"""This machine, and addresses that are not routed in the Internet (RFC 6890)."""


_FAMILIES: dict[int, socket.AddressFamily] = {
    EVDNS_TYPE_A: socket.AF_INET,
    EVDNS_TYPE_AAAA: socket.AF_INET6,
}


class Querier(Protocol):
    """What a forwarder needs of a resolver; `Resolver` has it."""

    def query(
        self,
        name: str,
        rdtype: int | str,
        cb: Callable[[Answer, Any], object],
        arg: object = None,
        *,
        flags: int = 0,
        timeout_s: float | None = None,
    ) -> object:
        """Look up the records of a type: cb(answer, arg), once, from the loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardOptions:
    """Limits of a `DnsForwarder`.  Raises DnsArgumentError for a value that cannot be.

    clients:    the networks that are served; others are REFUSED.  None serves everybody, which on
                a public address is an invitation to abuse.
    timeout_s:  seconds for one answer, then it is SERVFAIL.
    pending:    most questions under way; one more is SERVFAIL at once.
    keep_s:     for how long servers repeat an answer without asking here, so TTLs may be so much
                too long.  It counts when `clients` is None: who asks is not looked at else.
    """

    clients: tuple[str, ...] | None = LOCAL_NETWORKS
    timeout_s: float = 4.5
    pending: int = 10_000
    keep_s: float = 0.0

    def __post_init__(self) -> None:
        Networks(self.clients or ())
        if not 0 < self.timeout_s < math.inf:
            raise DnsArgumentError(f"timeout_s must be positive and finite: {self.timeout_s!r}")
        if self.pending < 1:
            raise DnsArgumentError(f"pending must be at least 1: {self.pending!r}")
        if not 0 <= self.keep_s < math.inf:
            raise DnsArgumentError(f"keep_s must be finite and not negative: {self.keep_s!r}")


class DnsForwarder:
    """Answers by what a resolver finds, with its cache: `DnsServer(base, DnsForwarder(resolver))`.

    The resolver's search list plays no part.  An alias is answered as one CNAME to the name at its
    end.  What fails is SERVFAIL with an extended error that says why; a query that does not want
    recursion, and one of a client not served, is REFUSED; types that are questions, such as ANY,
    are NOTIMP.  DNSSEC records are not asked for; AD says that the resolver's nameservers have
    validated, if it trusts them (`trust_ad`).
    """

    __slots__ = ("_clients", "_options", "_pending", "_resolver")

    def __init__(self, resolver: Querier, *, options: ForwardOptions | None = None) -> None:
        self._resolver = resolver
        self._options = options or ForwardOptions()
        clients = self._options.clients
        self._clients = None if clients is None else Networks(clients)
        self._pending = 0

    @property
    def pending(self) -> int:
        """How many questions are under way."""
        return self._pending

    def __call__(self, request: DnsServerRequest, arg: object = None) -> None:
        """Answer a request of a server, later."""
        if self._clients is not None:
            request.never_keep()
            if request.requesting_addr[0] not in self._clients:
                _fail(request, DNS_ERR_REFUSED, PROHIBITED, "")
                return
        if not request.flags & RD:
            _fail(request, DNS_ERR_REFUSED, NOT_AUTHORITATIVE, "recursion is not desired")
        elif self._pending >= self._options.pending:
            log.warning("%d questions are under way: no more", self._pending)
            _fail(request, DNS_ERR_SERVERFAILED, NO_REACHABLE_AUTHORITY, "too busy")
        else:
            self._ask(request)

    def _ask(self, request: DnsServerRequest) -> None:
        question = request.questions[0]
        self._pending += 1
        try:
            self._resolver.query(
                question.name,
                question.type,
                self._on_answer,
                request,
                flags=DNS_QUERY_NO_SEARCH,
                timeout_s=self._options.timeout_s,
            )
        except DnsArgumentError as exc:
            self._pending -= 1
            _fail(request, DNS_ERR_NOTIMPL, NOT_SUPPORTED, str(exc))
        except DnsStateError as exc:
            self._pending -= 1
            _fail(request, DNS_ERR_SERVERFAILED, NO_REACHABLE_AUTHORITY, str(exc))

    def _on_answer(self, answer: Answer, request: DnsServerRequest) -> None:
        self._pending -= 1
        result = answer.result
        if result not in (DNS_ERR_NONE, DNS_ERR_NODATA, DNS_ERR_NOTEXIST):
            reason = err_to_string(result)
            _fail(request, DNS_ERR_SERVERFAILED, NO_REACHABLE_AUTHORITY, reason)
            return
        flags = int(EVDNS_FLAGS_RD)
        if answer.authentic and (request.flags & AD or request.wants_dnssec):
            flags |= EVDNS_FLAGS_AD
        request.set_flags(flags)
        asked = request.questions[0].name
        if answer.is_alias and answer.name is not None:
            request.add_cname_reply(asked, answer.name, answer.ttl_s)
        for record in answer.records:
            owner = record.name if answer.is_alias else asked
            data = data_to_wire(record)
            kind = record.type
            request.add_reply(
                EVDNS_ANSWER_SECTION, owner, kind, EVDNS_CLASS_INET, answer.ttl_s, data
            )
        if answer.soa is not None:  # so that who asks may keep the absence, too (RFC 2308)
            soa = answer.soa
            request.add_reply(
                EVDNS_AUTHORITY_SECTION,
                soa.name,
                soa.type,
                EVDNS_CLASS_INET,
                answer.ttl_s,
                data_to_wire(soa),
            )
        keep_s = 0.0 if answer.authentic else min(self._options.keep_s, answer.ttl_s)
        request.respond(DNS_ERR_NONE if result == DNS_ERR_NODATA else result, cache_s=keep_s)


def _fail(request: DnsServerRequest, rcode: DnsResult, info_code: int, text: str) -> None:
    request.set_flags(EVDNS_FLAGS_RD)
    request.add_extended_error(info_code, text)
    request.respond(rcode)


def data_to_wire(record: Record) -> bytes | str:
    """Return what a record says as `DnsServerRequest.add_reply` takes it: its bytes, or a name."""
    data = record.data
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        family = _FAMILIES.get(record.type)
        return data if family is None else socket.inet_pton(family, data)
    if isinstance(data, Mx):
        return data.preference.to_bytes(2, "big") + _name(data.host)
    if isinstance(data, Srv):
        return b"".join(n.to_bytes(2, "big") for n in data[:3]) + _name(data.target)
    if isinstance(data, Soa):
        return _name(data.primary) + _name(data.mailbox) + _numbers(data[2:])
    if isinstance(data, Caa):
        tag = data.tag.encode("latin-1")
        return bytes((data.flags, len(tag))) + tag + data.value.encode("latin-1")
    if isinstance(data, Svcb):
        head = data.priority.to_bytes(2, "big") + _name(data.target)
        return head + b"".join(
            key.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value
            for key, value in data.params
        )
    return b"".join(bytes((len(text),)) + text for text in data)


def _name(text: str) -> bytes:
    return parse_name(text).to_wire() or b""


def _numbers(numbers: tuple[int, ...]) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in numbers)
