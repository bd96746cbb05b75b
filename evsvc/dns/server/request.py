"""DnsServerRequest: one query, and the reply that the program makes to it."""

from __future__ import annotations

import enum
import ipaddress
import math
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.NS
import dns.rdtypes.ANY.PTR
import dns.rrset

from ..constants import (
    EVDNS_ANSWER_SECTION,
    EVDNS_AUTHORITY_SECTION,
    EVDNS_CLASS_INET,
    EVDNS_FLAGS_AA,
    EVDNS_FLAGS_AD,
    EVDNS_FLAGS_RD,
    EVDNS_TYPE_A,
    EVDNS_TYPE_AAAA,
    EVDNS_TYPE_CNAME,
    EVDNS_TYPE_OPT,
    EVDNS_TYPE_PTR,
    Section,
)
from ..errors import DNS_ERR_SERVERFAILED, DnsArgumentError, DnsStateError
from ..options import MAX_MESSAGE_BYTES, MIN_UDP_BYTES
from ..wire.edns import (
    COOKIE,
    EXTENDED_ERROR,
    KEEPALIVE,
    PADDING,
    EdnsOption,
    add_options,
    options_bytes,
)
from ..wire.fast import PlainQuery, PlainRecord, PlainSoa, is_ordinary_data, write_plain
from ..wire.names import name_to_text, parse_name
from ..wire.queries import start_reply

if TYPE_CHECKING:
    from .finished import ReplyGroup

MAX_RDATA_BYTES = 65535
MAX_TTL_S = 2**31 - 1  # RFC 2181 section 8
MAX_RCODE = 15
MAX_OPTIONS_BYTES = 1024
"""What the options that a program adds to a reply may have in all."""
_ONE_ADDRESS = (str, bytes)
_SETTABLE_FLAGS = int(EVDNS_FLAGS_AA | EVDNS_FLAGS_RD | EVDNS_FLAGS_AD)
_TRANSPORTS_OF_MESSAGES = ("tcp", "tls")
_OPTIONS_OF_THE_SERVER = (COOKIE, KEEPALIVE, PADDING)

# RFC 3597 section 4: only names in the types of RFC 1035 may be compressed.
_NAME_RDATA: dict[int, Callable[..., dns.rdata.Rdata]] = {
    dns.rdatatype.NS: dns.rdtypes.ANY.NS.NS,
    dns.rdatatype.CNAME: dns.rdtypes.ANY.CNAME.CNAME,
    dns.rdatatype.PTR: dns.rdtypes.ANY.PTR.PTR,
}


class ServerQuestion(NamedTuple):
    """What a client asks (struct evdns_server_question); the name keeps its case."""

    name: str
    type: int
    cls: int


# NamedTuple's own constructor is one more call for each query.
_make_question = cast(
    "Callable[[tuple[str, int, int]], ServerQuestion]", partial(tuple.__new__, ServerQuestion)
)


class ReplyPath(Protocol):
    """Where a reply goes: a UDP port or a TCP client.  A closed one takes and forgets it.

    announced_bytes: the largest datagram that we take, as EDNS tells the client;
    is_stream: whether replies go over a stream;  transport: "udp", "tcp", "tls" or "https".
    """

    @property
    def announced_bytes(self) -> int: ...

    @property
    def is_stream(self) -> bool: ...

    @property
    def transport(self) -> str: ...

    def limit_for(self, payload: int) -> int:
        """Return how long a reply may be, in bytes, to a client that takes datagrams so large."""

    def send_reply(self, packet: bytes, address: Any) -> None:
        """Send the reply to a query."""

    def send_messages(self, messages: Iterator[bytes], address: Any) -> None:
        """Send a reply of several messages, each made when there is room; over streams only."""

    def forget_request(self) -> None:
        """Count a query as done that gets no reply."""


class Phase(enum.Enum):
    OPEN = enum.auto()
    ANSWERED = enum.auto()
    GIVEN_UP = enum.auto()  # answered for the program, whose callback raised


OPEN, ANSWERED = Phase.OPEN, Phase.ANSWERED  # looked at several times for each query


class ServerOptions(NamedTuple):
    """What the server itself has to do with the EDNS options of a query.

    asked: the options that it came with;  answers: what goes into the reply;  pads: whether that
    is padded.
    """

    asked: tuple[EdnsOption, ...] = ()
    answers: tuple[EdnsOption, ...] = ()
    pads: bool = False


NO_OPTIONS = ServerOptions()


class DnsServerRequest:
    """A query to answer with `respond`, now or later, or to `drop` (struct evdns_server_request).

    flags: the query's header flags;  requesting_addr: the client's socket address;  phase: not for
    programs.

    The `add_*` methods raise DnsArgumentError for what cannot stand in a reply, and DnsStateError
    after `respond` or `drop`.  Replying to a client that has gone, or through a port that was
    closed, does nothing.
    """

    __slots__ = (
        "_groups",
        "_keep",
        "_may_keep",
        "_message",
        "_own_options",
        "_packet",
        "_path",
        "_plain",
        "_plain_records",
        "_plain_soa",
        "_questions",
        "_records",
        "_reply_flags",
        "_server_options",
        "flags",
        "phase",
        "requesting_addr",
    )

    def __init__(
        self,
        path: ReplyPath,
        packet: bytes,
        query: PlainQuery | dns.message.Message,
        address: Any,
        keep: Callable[[PlainQuery, bytes, float, tuple[ReplyGroup, ...]], object],
        options: ServerOptions = NO_OPTIONS,
    ) -> None:
        self._path = path
        self._packet = packet
        self.phase = OPEN
        self._reply_flags = 0
        # While the query and all records are ordinary they stay plain; `_sections` ends that.
        self._plain: PlainQuery | None = None
        self._message: dns.message.Message | None = None
        self._plain_records: list[PlainRecord] | None = None
        self._plain_soa: PlainSoa | None = None
        self._records: tuple[list[dns.rrset.RRset], ...] | None = None
        self._questions: list[ServerQuestion] | None = None
        self._groups: tuple[ReplyGroup, ...] = ()
        self._keep = keep
        self._may_keep = True
        self._server_options = options
        self._own_options: list[EdnsOption] | None = None
        self.flags = int(query.flags)
        self.requesting_addr = address
        if isinstance(query, PlainQuery):
            self._plain = query
            self._plain_records = []
        else:
            self._message = query

    @property
    def questions(self) -> list[ServerQuestion]:
        """What is asked: a list of one."""
        found = self._questions
        if found is None:
            plain = self._plain
            if plain is not None:
                found = [_make_question((plain.name, plain.rdtype, plain.rdclass))]
            else:
                found = [
                    ServerQuestion(name_to_text(asked.name), int(asked.rdtype), int(asked.rdclass))
                    for asked in self._query().question
                ]
            self._questions = found
        return found

    @property
    def name_key(self) -> bytes:
        """The name that is asked for in its wire form, in lower case: equal for equal names."""
        plain = self._plain
        if plain is not None:
            return plain.name_key
        return self._query().question[0].name.to_digestable()

    @property
    def message(self) -> dns.message.Message:
        """The query as dnspython's, without the EDNS options; it is not to be changed."""
        return self._query()

    @property
    def is_stream(self) -> bool:
        """Whether the query came over a stream, so that its client is who it says."""
        return self._path.is_stream

    @property
    def transport(self) -> str:
        """How the query came: "udp", "tcp", "tls" or "https"."""
        return self._path.transport

    @property
    def has_edns(self) -> bool:
        """Whether the client knows of EDNS, so that options reach it."""
        plain = self._plain
        return (self._query().edns if plain is None else plain.edns_flags) >= 0

    @property
    def wants_dnssec(self) -> bool:
        """Whether the client asks for DNSSEC records (the DO bit, RFC 3225)."""
        plain = self._plain
        flags = self._query().ednsflags if plain is None else max(plain.edns_flags, 0)
        return bool(flags & dns.flags.DO)

    @property
    def edns_options(self) -> tuple[EdnsOption, ...]:
        """The EDNS options of the query, as pairs of code and data."""
        return self._server_options.asked

    @property
    def answered(self) -> bool:
        """Whether it is answered, or dropped."""
        return self.phase is not OPEN

    def set_path(self, path: ReplyPath) -> None:
        """Have the reply go another way; not for programs."""
        self._path = path

    def set_flags(self, flags: int) -> None:
        """Set EVDNS_FLAGS_AA, _RD and _AD of the reply, and clear what is not given.

        Raises DnsArgumentError for other bits.  Source: evdns_server_request_set_flags.
        """
        self._require_unanswered()
        if flags & ~_SETTABLE_FLAGS:
            raise DnsArgumentError(f"only AA, RD and AD can be set, not {flags:#x}")
        self._reply_flags = int(flags)

    def add_edns_option(self, code: int, data: bytes) -> None:
        """Add an EDNS option to the reply; a client without EDNS does not get it.

        Cookie, keep-alive and padding are the server's own to add.  Raises DnsArgumentError for
        these, for a code that is none, and when a reply has more than 1024 bytes of options.
        """
        self._require_unanswered()
        _check_number("code of an option", code, 65535)
        if code in _OPTIONS_OF_THE_SERVER:
            raise DnsArgumentError(f"EDNS option {code} is the server's own to add")
        options = [*(self._own_options or ()), (code, bytes(data))]
        if options_bytes(options) > MAX_OPTIONS_BYTES:
            raise DnsArgumentError(
                f"{options_bytes(options)} bytes of EDNS options are more than {MAX_OPTIONS_BYTES}"
            )
        self._own_options = options

    def add_extended_error(self, code: int, text: str = "") -> None:
        """Tell why there is no better answer: an "info code" of RFC 8914, and a text for people.

        Raises as `add_edns_option`.
        """
        _check_number("info code", code, 65535)
        self.add_edns_option(EXTENDED_ERROR, code.to_bytes(2, "big") + text.encode())

    def keep_with(self, group: ReplyGroup) -> None:
        """Have what `respond` keeps of the reply forgotten when the group is flushed.

        Each handler through whose hands a query goes may name a group of its own.
        """
        self._groups = (*self._groups, group)

    def never_keep(self) -> None:
        """Have `respond` keep no reply to this query, whatever its `cache_s`.

        For callbacks that look at who asks and then hand the query to another one.
        """
        self._may_keep = False

    def add_reply(
        self,
        section: int,
        name: str,
        type: int,  # noqa: A002  # the word of DNS and of libevent; `type()` is not needed here
        cls: int,
        ttl: int,
        data: bytes | str | None,
    ) -> None:
        """Add one record; `data` is its raw rdata, or a domain name, or None for nothing.

        section: EVDNS_ANSWER_SECTION, EVDNS_AUTHORITY_SECTION or EVDNS_ADDITIONAL_SECTION;
        ttl: seconds.  The OPT record of EDNS is added by itself.  Names are compressed without
        regard to case (RFC 4343 section 4.1).
        Source: evdns_server_request_add_reply.
        """
        self._require_unanswered()
        if section not in tuple(Section):
            raise DnsArgumentError(f"no such section: {section!r}")
        _check_number("type", type, 65535)
        _check_number("class", cls, 65535)
        _check_number("ttl", ttl, MAX_TTL_S)
        if type == EVDNS_TYPE_OPT:
            raise DnsArgumentError("the OPT record is not for the program to add")
        rdata = _make_rdata(type, cls, data)
        rrset = dns.rrset.from_rdata(parse_name(name), ttl, rdata)
        self._sections()[section].append(rrset)

    def add_text(
        self,
        name: str,
        ttl: int,
        type: int | str,  # noqa: A002  # as in `add_reply`
        text: str,
        *,
        section: int = EVDNS_ANSWER_SECTION,
    ) -> None:
        """Add a record of any type, written as in a zone file: ("a.test", 60, "MX", "10 b.test").

        Names in it without a trailing dot are taken from the root.  Raises DnsArgumentError also
        for a type that is not known, and for a text that is not one of its records.
        """
        self._require_unanswered()
        _check_number("ttl", ttl, MAX_TTL_S)
        owner = parse_name(name)
        try:
            rdtype = dns.rdatatype.RdataType.make(type)
            rdata = dns.rdata.from_text(
                dns.rdataclass.IN, rdtype, text, origin=dns.name.root, relativize=False
            )
        except (dns.exception.DNSException, ValueError) as exc:
            raise DnsArgumentError(f"not a record: {type!r} {text!r} ({exc})") from None
        self.add_rrset(section, dns.rrset.from_rdata(owner, ttl, rdata))

    def add_plain(self, records: Iterable[PlainRecord], soa: PlainSoa | None) -> bool:
        """Add records of the asked name, or the SOA record of its absence, as they are written.

        For handlers that have them ready.  Return False, and add nothing, when the reply cannot be
        written by hand any more; they are to be added in another way then.
        """
        self._require_unanswered()
        if self._plain_records is None or self._plain_soa is not None:
            return False
        self._plain_records += records
        self._plain_soa = soa
        return True

    def add_rrset(self, section: int, rrset: dns.rrset.RRset) -> None:
        """Add records as dnspython has them, whose names are absolute; it is not copied."""
        self._require_unanswered()
        if section not in tuple(Section):
            raise DnsArgumentError(f"no such section: {section!r}")
        if int(rrset.rdtype) == EVDNS_TYPE_OPT:
            raise DnsArgumentError("the OPT record is not for the program to add")
        self._sections()[section].append(rrset)

    def add_a_reply(
        self, name: str, addresses: Iterable[str | bytes | ipaddress.IPv4Address], ttl: int
    ) -> None:
        """Answer with IPv4 addresses, a record for each (evdns_server_request_add_a_reply)."""
        packed = _pack_each(addresses, socket.AF_INET, ipaddress.IPv4Address)
        self._answer(name, EVDNS_TYPE_A, ttl, packed, True)

    def add_aaaa_reply(
        self, name: str, addresses: Iterable[str | bytes | ipaddress.IPv6Address], ttl: int
    ) -> None:
        """Answer with IPv6 addresses, a record for each (evdns_server_request_add_aaaa_reply)."""
        packed = _pack_each(addresses, socket.AF_INET6, ipaddress.IPv6Address)
        self._answer(name, EVDNS_TYPE_AAAA, ttl, packed, True)

    def add_ptr_reply(
        self, address: str | None, arpa_name: str | None, hostname: str, ttl: int
    ) -> None:
        """Answer with a host name, for an IP address or for its name under .arpa.

        Raises DnsArgumentError unless exactly one of the two is given.
        Source: evdns_server_request_add_ptr_reply.
        """
        if (address is None) == (arpa_name is None):
            raise DnsArgumentError(
                f"either an address or an arpa name is wanted: {address!r}, {arpa_name!r}"
            )
        if arpa_name is None:
            try:
                arpa_name = ipaddress.ip_address(address or "").reverse_pointer
            except ValueError:
                raise DnsArgumentError(f"not an IP address: {address!r}") from None
        self._answer(arpa_name, EVDNS_TYPE_PTR, ttl, [hostname])

    def add_cname_reply(self, name: str, target: str, ttl: int) -> None:
        """Answer that `name` is an alias of `target` (evdns_server_request_add_cname_reply)."""
        self._answer(name, EVDNS_TYPE_CNAME, ttl, [target])

    def _answer(
        self,
        name: str,
        rdtype: int,
        ttl: int,
        each: Sequence[bytes | str],
        is_ordinary: bool = False,
    ) -> None:
        if self.phase is not OPEN:
            self._require_unanswered()
        plain = self._plain_records
        if (
            plain is not None
            and (name == (self._questions or self.questions)[0].name or self._is_asked(name))
            and (is_ordinary or all(map(is_ordinary_data, each)))
        ):
            if type(ttl) is not int or not 0 <= ttl <= MAX_TTL_S:
                _check_number("ttl", ttl, MAX_TTL_S)
            for data in each:  # a comprehension would be one more call
                plain.append((rdtype, ttl, data))
            return
        for data in each:
            self.add_reply(EVDNS_ANSWER_SECTION, name, rdtype, EVDNS_CLASS_INET, ttl, data)

    def respond(self, rcode: int, *, cache_s: float = 0.0) -> None:
        """Send the reply, with an rcode from 0 to 15.

        cache_s: for so many seconds the same question is answered the same without a call of the
        program, whoever asks, if the question is an ordinary one and the reply was not cut; see
        `DnsServer.flush_finished` and `keep_with`.

        What does not fit into a datagram is left out record by record, and TC set, if it was not
        of the additional section (RFC 2181 section 9).  Raises DnsArgumentError for another
        rcode or time, DnsStateError the second time.  Source: evdns_server_request_respond.
        """
        if self.phase is not OPEN:
            if self.phase is Phase.GIVEN_UP:
                return
            self._require_unanswered()
        if type(rcode) is not int or not 0 <= rcode <= MAX_RCODE:
            _check_number("rcode", rcode, MAX_RCODE)
        if cache_s != 0 and not 0 < cache_s < math.inf:
            raise DnsArgumentError(f"the time to keep a reply cannot be {cache_s!r}")
        self.phase = ANSWERED
        self._send(rcode, cache_s)

    def respond_messages(self, messages: Iterable[Sequence[dns.rrset.RRset]]) -> None:
        """Answer over a stream in several messages, as a zone transfer does (RFC 5936 2.2).

        Each has the records that it is given in its answer section, and the flags set so far; it
        is asked for when the client has taken the ones before, so a long answer needs little
        memory.  What the iterator raises is logged, and ends the connection.  Raises
        DnsStateError over UDP and HTTPS, and as `respond`.
        """
        if self.phase is Phase.GIVEN_UP:
            return
        self._require_unanswered()
        if self._path.transport not in _TRANSPORTS_OF_MESSAGES:
            raise DnsStateError(f"{self._path.transport} carries no reply of several messages")
        self.phase = ANSWERED
        self._path.send_messages(self._render_messages(messages), self.requesting_addr)

    def _render_messages(self, messages: Iterable[Sequence[dns.rrset.RRset]]) -> Iterator[bytes]:
        announced = self._path.announced_bytes
        for rrsets in messages:
            reply = start_reply(self._query(), self._reply_flags, announced)
            reply.answer = list(rrsets)
            yield reply.to_wire(max_size=MAX_MESSAGE_BYTES, want_shuffle=False)

    def drop(self) -> None:
        """Send nothing.  Raises DnsStateError after `respond`.

        Source: evdns_server_request_drop.
        """
        if self.phase is Phase.GIVEN_UP:
            return
        self._require_unanswered()
        self.phase = ANSWERED
        self._path.forget_request()

    def give_up(self) -> None:
        """Answer SERVFAIL for a callback that raised; what the program does later is ignored."""
        if self.phase is OPEN:
            self.phase = Phase.GIVEN_UP
            self._records = ([], [], [])
            self._plain_records = None if self._plain is None else []
            self._plain_soa = None
            self._own_options = None
            self._send(DNS_ERR_SERVERFAILED, 0.0)

    def _send(self, rcode: int, cache_s: float) -> None:
        path, plain = self._path, self._plain
        flags = self._reply_flags | rcode
        packet, whole = None, True
        records = self._plain_records
        if plain is not None and records is not None:
            packet = write_plain(
                self._packet[:2], plain, flags, records, path.announced_bytes, self._plain_soa
            )
        has_options = self._own_options is not None or self._server_options is not NO_OPTIONS
        # What is no longer than this fits everywhere.
        if packet is None or has_options or len(packet) > MIN_UDP_BYTES:
            limit = path.limit_for(self._query().payload if plain is None else plain.payload)
            room = limit - self._options_bytes() if has_options else limit
            if packet is None or len(packet) > room:
                packet, whole = self._render(flags, room)
        if cache_s and plain is not None and whole and self._is_for_all(plain, packet):
            self._keep(plain, packet, cache_s, self._groups)
        if has_options:
            packet = self._with_options(packet, limit)
        path.send_reply(packet, self.requesting_addr)

    def _is_for_all(self, plain: PlainQuery, packet: bytes) -> bool:
        """Return True when another client may get the same reply, be it in a datagram."""
        if not self._may_keep or self._own_options is not None:
            return False
        path = self._path
        datagram = min(max(plain.payload, MIN_UDP_BYTES), path.announced_bytes)
        return not path.is_stream or len(packet) <= datagram

    def _options_bytes(self) -> int:
        return options_bytes((*(self._own_options or ()), *self._server_options.answers))

    def _with_options(self, packet: bytes, limit: int) -> bytes:
        options = (*(self._own_options or ()), *self._server_options.answers)
        return add_options(packet, options, pads=self._server_options.pads, limit=limit)

    def _render(self, flags: int, limit: int) -> tuple[bytes, bool]:
        """Return the reply that dnspython writes, and whether nothing had to be left out."""
        reply = start_reply(self._query(), flags, self._path.announced_bytes)
        reply.answer, reply.authority, reply.additional = self._sections()
        packet = reply.to_wire(max_size=limit, prefer_truncation=True, want_shuffle=False)
        counts = struct.unpack_from("!3H", packet, 6)
        records = 1 if reply.edns >= 0 else 0
        for section in (reply.answer, reply.authority, reply.additional):
            records += sum(map(len, section))
        return packet, sum(counts) == records

    def _query(self) -> dns.message.Message:
        """Return the query as dnspython reads it, which is done when somebody looks."""
        if self._message is None:
            self._message = dns.message.from_wire(self._packet, keyring=False)
        return self._message

    def _is_asked(self, name: str) -> bool:
        """Return True when a name is the question's own, written in another way."""
        return name.isascii() and name.removesuffix(".").lower() == self.questions[0].name.lower()

    def _sections(self) -> tuple[list[dns.rrset.RRset], ...]:
        """Return the records by section, as dnspython's; plain ones are made such."""
        if self._records is None:
            self._records = ([], [], [])
        if self._plain_records:
            owner = self._query().question[0].name
            for rdtype, ttl, data in self._plain_records:
                rdata = _make_rdata(rdtype, EVDNS_CLASS_INET, data)
                self._records[EVDNS_ANSWER_SECTION].append(dns.rrset.from_rdata(owner, ttl, rdata))
        if self._plain_soa is not None:
            self._records[EVDNS_AUTHORITY_SECTION].append(self._plain_soa.rrset)
        self._plain_records = self._plain_soa = None
        return self._records

    def _require_unanswered(self) -> None:
        if self.phase is ANSWERED:
            raise DnsStateError(f"the request has been answered already: {self.questions}")


def _check_number(what: str, value: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= high:
        raise DnsArgumentError(f"the {what} must be from 0 to {high}: {value!r}")


def _pack_each(
    addresses: Iterable[Any],
    family: socket.AddressFamily,
    kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address],
) -> list[bytes]:
    """Return the rdata of addresses; one lone text would be taken for its characters."""
    if isinstance(addresses, _ONE_ADDRESS):
        raise DnsArgumentError(f"a list of addresses is wanted: {addresses!r}")
    packed = []
    for address in addresses:
        try:
            data = socket.inet_pton(family, address)  # the common case; other forms are judged here
        except (OSError, TypeError, ValueError):
            data = _pack(address, kind)
        packed.append(data)
    return packed


def _pack(address: Any, kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]) -> bytes:
    try:
        if isinstance(address, int):
            raise ValueError(address)
        return kind(address).packed
    except ValueError:
        raise DnsArgumentError(f"not an {kind.__name__}: {address!r}") from None


def _make_rdata(record_type: int, cls: int, data: bytes | str | None) -> dns.rdata.Rdata:
    rdtype = dns.rdatatype.RdataType.make(record_type)
    rdclass = dns.rdataclass.RdataClass.make(cls)
    if isinstance(data, str):
        target = parse_name(data)
        known = _NAME_RDATA.get(record_type)
        if known is not None:
            return known(rdclass, rdtype, target)
        data = target.to_wire()
    data = bytes(data or b"")
    if len(data) > MAX_RDATA_BYTES:
        raise DnsArgumentError(f"rdata of {len(data)} bytes is more than {MAX_RDATA_BYTES}")
    return dns.rdata.GenericRdata(rdclass, rdtype, data)
