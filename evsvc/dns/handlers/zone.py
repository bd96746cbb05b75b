"""DnsZone: a handler that answers from a zone, and hands it to secondary servers (AXFR)."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Self

import dns.exception
import dns.name
import dns.rdatatype
import dns.rrset
import dns.zone
from dns.rrset import RRset

from ...core import EV_PERSIST, Event, StateError
from ...core.closing import Closing
from ..constants import (
    EVDNS_ADDITIONAL_SECTION,
    EVDNS_ANSWER_SECTION,
    EVDNS_AUTHORITY_SECTION,
    EVDNS_FLAGS_AA,
)
from ..errors import DNS_ERR_NONE, DNS_ERR_REFUSED, DnsArgumentError, DnsError
from ..resolver.sysconfig import read_file
from ..server.finished import ReplyGroup
from ..wire.names import parse_name
from .networks import Networks
from .zone_data import ZoneData, read_zone

if TYPE_CHECKING:
    from ...core import EventBase
    from ..server.request import DnsServerRequest

log = logging.getLogger("evsvc.dns")

NOT_AUTHORITATIVE, PROHIBITED = 20, 18
"""Info codes of extended errors (RFC 8914 section 4)."""

_AXFR, _IXFR, _SOA = dns.rdatatype.AXFR, dns.rdatatype.IXFR, dns.rdatatype.SOA
_RECORD_BYTES = 10  # type, class, TTL and length of each
_SERIALS = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneOptions:
    """How a `DnsZone` answers.  Raises DnsArgumentError for a value that cannot be.

    transfers_to:  the networks whose hosts may fetch the whole zone (AXFR, and IXFR, which is
                   answered alike), over TCP or TLS; others are refused.
    keep_s:        for how long servers keep finished replies; a reload forgets them.  0 keeps
                   none.
    file_bytes:    longest zone file read.
    message_bytes: how much of a zone goes into one message of a transfer; one record goes always.
    """

    transfers_to: tuple[str, ...] = ()
    keep_s: float = 3600.0
    file_bytes: int = 64 * 1024 * 1024
    message_bytes: int = 16 * 1024

    def __post_init__(self) -> None:
        Networks(self.transfers_to)
        if not 0 <= self.keep_s < float("inf"):
            raise DnsArgumentError(f"keep_s must be finite and not negative: {self.keep_s!r}")
        if self.file_bytes < 0:
            raise DnsArgumentError(f"file_bytes must not be negative: {self.file_bytes!r}")
        if not 0 < self.message_bytes <= 32 * 1024:
            raise DnsArgumentError(f"message_bytes must be from 1 to 32768: {self.message_bytes!r}")


class DnsZone(Closing):
    """Answers questions about one zone with authority: `DnsServer(base, DnsZone(zone))`.

    zone: one of dnspython, which is copied; `from_file` and `from_text` read one.  Names that do
    not exist, and types that a name has not, are answered with the SOA record (RFC 2308);
    wildcards, aliases, DNAME and delegations with glue as RFC 1034 has it; a question for ANY
    with one set of records (RFC 8482).  What is not in the zone is REFUSED.  There is no DNSSEC:
    records of it are given to who asks for their type.

    Raises DnsArgumentError when the zone has no origin, SOA or NS record.
    """

    __slots__ = (
        "_again",
        "_data",
        "_filename",
        "_kept",
        "_origin",
        "_peers",
        "_reading",
        "_seen",
        "_timer",
        "options",
    )

    def __init__(self, zone: dns.zone.Zone, *, options: ZoneOptions | None = None) -> None:
        self.options = options or ZoneOptions()
        self._peers = Networks(self.options.transfers_to)
        self._data = read_zone(zone)
        self._kept = ReplyGroup()
        self._filename: str | None = None
        self._origin: dns.name.Name | None = None
        self._timer: Event | None = None
        self._seen: tuple[int, ...] | None = None
        self._reading = self._again = False

    @classmethod
    def from_file(
        cls, filename: str, origin: str | None = None, *, options: ZoneOptions | None = None
    ) -> Self:
        """Return the zone of a master file (RFC 1035 section 5), without $INCLUDE.

        origin: the zone's name; None takes it from the file's first $ORIGIN.  Raises DnsFileError
        for a file that cannot be read or is too long, DnsArgumentError for what is no zone.
        """
        options = options or ZoneOptions()
        wanted = None if origin is None else parse_name(origin)
        seen = _look_at(filename)
        made = cls(_read_file(filename, wanted, options.file_bytes), options=options)
        made._filename, made._origin, made._seen = filename, wanted, seen
        return made

    @classmethod
    def from_text(
        cls, text: str, origin: str | None = None, *, options: ZoneOptions | None = None
    ) -> Self:
        """Return the zone that a text holds, as a file would; raises as `from_file`."""
        wanted = None if origin is None else parse_name(origin)
        return cls(_parse(text, wanted, "the text"), options=options)

    @property
    def origin(self) -> str:
        """The name of the zone, without the last dot."""
        return self._data.origin.to_text(omit_final_dot=True)

    @property
    def serial(self) -> int:
        """The serial number of the zone that is served."""
        return self._data.serial

    def replace(self, zone: dns.zone.Zone) -> None:
        """Serve another zone from now on; transfers under way go on with what they began.

        Raises as the constructor, and then nothing has changed.
        """
        self._adopt(read_zone(zone))

    def reload(self) -> bool:
        """Read the file again, now; a bad one is logged, and the zone stays as it is.

        Return whether it was read.  The loop stands still meanwhile: see `reload_aside`.  Raises
        DnsArgumentError when the zone is not from a file.
        """
        return self._take_outcome(self._load())

    def reload_aside(self, base: EventBase) -> None:
        """Do as `reload`, in a thread; the zone is exchanged from the loop of `base`.

        A call while the file is being read has it read once more.  It is what a handler of SIGHUP
        wants.
        """
        self._require_file()
        if self._reading:
            self._again = True
            return
        self._reading = True
        threading.Thread(target=self._load_aside, args=(base,), daemon=True).start()

    def follow(self, base: EventBase, every_s: float = 1.0) -> None:
        """Look at the file every `every_s` seconds until `close`, and reload it when it changed.

        Raises DnsArgumentError when the zone is not from a file.
        """
        self._require_file()
        self.close()
        self._timer = Event(base, -1, EV_PERSIST, self._on_time, base)
        self._timer.add(every_s)

    def close(self) -> None:
        """Look at the file no more; it can be served all the same.  Safe to repeat."""
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def __call__(self, request: DnsServerRequest, arg: object = None) -> None:
        """Answer a request of a server."""
        question = request.questions[0]
        data = self._data
        if not data.covers(request.name_key):
            request.add_extended_error(NOT_AUTHORITATIVE)
            request.respond(DNS_ERR_REFUSED)
        elif question.type in (_AXFR, _IXFR):
            self._transfer(request)
        else:
            request.keep_with(self._kept)
            respond_from(data, request, self.options.keep_s)

    def _transfer(self, request: DnsServerRequest) -> None:
        data = self._data
        name = request.message.question[0].name
        if request.requesting_addr[0] not in self._peers or name != data.origin:
            log.warning("refused %s to transfer %s", request.requesting_addr, name)
            request.add_extended_error(PROHIBITED)
            request.respond(DNS_ERR_REFUSED)
            return
        log.info("transfer of %s to %s", name, request.requesting_addr)
        request.set_flags(EVDNS_FLAGS_AA)
        if _is_up_to_date(request, data.serial):
            request.add_rrset(EVDNS_ANSWER_SECTION, data.soa)
            request.respond(DNS_ERR_NONE)
        else:
            request.respond_messages(_messages(data, self.options.message_bytes))

    def _adopt(self, data: ZoneData) -> None:
        self._data = data
        self._kept.flush()

    def _require_file(self) -> str:
        if self._filename is None:
            raise DnsArgumentError(f"the zone {self.origin} is not from a file")
        return self._filename

    def _on_time(self, fd: int, what: int, base: EventBase) -> None:
        if _look_at(self._require_file()) != self._seen and not self._reading:
            self.reload_aside(base)

    def _load(self) -> tuple[tuple[int, ...] | None, ZoneData | Exception]:
        filename = self._require_file()
        seen = _look_at(filename)
        try:
            return seen, read_zone(_read_file(filename, self._origin, self.options.file_bytes))
        except DnsError as exc:
            return seen, exc

    def _load_aside(self, base: EventBase) -> None:
        outcome = self._load()
        try:
            base.post(self._end_aside, base, outcome)
        except StateError:
            log.debug("the loop is closed, and needs no %s", self._filename)

    def _end_aside(
        self, base: EventBase, outcome: tuple[tuple[int, ...] | None, ZoneData | Exception]
    ) -> None:
        self._reading = False
        self._take_outcome(outcome)
        if self._again:
            self._again = False
            self.reload_aside(base)

    def _take_outcome(self, outcome: tuple[tuple[int, ...] | None, ZoneData | Exception]) -> bool:
        self._seen, data = outcome
        if isinstance(data, ZoneData) and data.origin != self._data.origin:
            data = DnsArgumentError(f"it is the zone {data.origin}, not {self._data.origin}")
        if isinstance(data, Exception):
            log.error("%s is kept as it was: %s", self.origin, data)
            return False
        self._adopt(data)
        log.info("%s is served with serial %d", self.origin, data.serial)
        return True


def respond_from(data: ZoneData, request: DnsServerRequest, keep_s: float) -> None:
    """Answer a request from a zone, to which it belongs; servers keep the reply for `keep_s`."""
    rdtype = request.questions[0].type
    plain = data.find_plain(request.name_key, rdtype)
    if plain is not None and request.add_plain(plain.records, plain.soa):
        request.set_flags(EVDNS_FLAGS_AA)
        request.respond(plain.rcode, cache_s=keep_s)
        return
    found = data.find(request.message.question[0].name, rdtype)
    if found.is_authoritative:
        request.set_flags(EVDNS_FLAGS_AA)
    for section, rrsets in (
        (EVDNS_ANSWER_SECTION, found.answer),
        (EVDNS_AUTHORITY_SECTION, found.authority),
        (EVDNS_ADDITIONAL_SECTION, found.additional),
    ):
        for rrset in rrsets:
            request.add_rrset(section, rrset)
    request.respond(found.rcode, cache_s=keep_s)


def _is_up_to_date(request: DnsServerRequest, serial: int) -> bool:
    """Return True when a secondary asks for changes since what there is (RFC 1995 section 2)."""
    if request.questions[0].type != _IXFR:
        return False
    for rrset in request.message.authority:
        if rrset.rdtype == _SOA:
            behind = (serial - int(rrset[0].serial)) % _SERIALS
            return behind == 0 or behind > _SERIALS // 2  # RFC 1982
    return False


def _messages(data: ZoneData, most_bytes: int) -> Iterator[list[RRset]]:
    """Yield a zone message by message: the SOA, everything else, the SOA (RFC 5936 2.2)."""
    soa = data.soa
    message: list[RRset] = []
    size = 0
    for rrset in chain((soa,), data.records(), (soa,)):
        owner_bytes = len(rrset.name.to_wire() or b"")
        for rdata in rrset:
            record_bytes = owner_bytes + _RECORD_BYTES + len(rdata.to_wire() or b"")
            if message and size + record_bytes > most_bytes:
                yield message
                message, size = [], 0
            message.append(dns.rrset.from_rdata(rrset.name, rrset.ttl, rdata))
            size += record_bytes
    yield message


def _look_at(filename: str) -> tuple[int, ...] | None:
    """Return what changes with a file; None when it is not there."""
    try:
        found = os.stat(filename)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read_file(filename: str, origin: dns.name.Name | None, most_bytes: int) -> dns.zone.Zone:
    text = read_file(filename, most_bytes)
    if "\ufffd" in text:
        raise DnsArgumentError(f"{filename}: not a zone: it is not UTF-8")
    return _parse(text, origin, filename)


def _parse(text: str, origin: dns.name.Name | None, what: str) -> dns.zone.Zone:
    try:
        return dns.zone.from_text(text, origin, relativize=False, filename=what, check_origin=False)
    except (dns.exception.DNSException, ValueError, KeyError) as exc:
        raise DnsArgumentError(f"{what}: not a zone: {exc or type(exc).__name__}") from exc
