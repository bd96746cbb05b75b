"""Records as a program gets them: plain Python values, one shape for each type.

A, AAAA           the address as text
NS, CNAME, PTR    the name as text, without the trailing dot
TXT               a tuple of bytes
MX, SRV, SOA, CAA, SVCB and HTTPS    the named tuples below
any other         the bytes of its data, uncompressed (RFC 3597)
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import dns.name
import dns.rdatatype
import dns.rdtypes.ANY.CAA
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.SOA
import dns.rdtypes.ANY.TXT
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rdtypes.IN.SRV
import dns.rdtypes.nsbase
import dns.rdtypes.svcbbase
from dns.rdata import Rdata

from ..errors import DnsArgumentError


class Mx(NamedTuple):
    """A mail exchanger (RFC 1035 3.3.9); the lowest preference is tried first."""

    preference: int
    host: str


class Srv(NamedTuple):
    """Where a service is (RFC 2782); the target "." says that it is not offered."""

    priority: int
    weight: int
    port: int
    target: str


class Soa(NamedTuple):
    """The head of a zone (RFC 1035 3.3.13)."""

    primary: str
    mailbox: str
    serial: int
    refresh_s: int
    retry_s: int
    expire_s: int
    minimum_s: int


class Caa(NamedTuple):
    """Who may issue certificates (RFC 8659)."""

    flags: int
    tag: str
    value: str


class Svcb(NamedTuple):
    """How a service is reached, for SVCB and HTTPS (RFC 9460); priority 0 is an alias.

    params: the parameters by their numbers, each as its bytes on the wire; the ones that a client
    needs most are taken out of them as `alpn`, `port`, and `hints`, the addresses.
    """

    priority: int
    target: str
    alpn: tuple[str, ...] = ()
    port: int | None = None
    hints: tuple[str, ...] = ()
    params: tuple[tuple[int, bytes], ...] = ()


RecordData: TypeAlias = str | Mx | Srv | Soa | Caa | Svcb | tuple[bytes, ...] | bytes


class Record(NamedTuple):
    """One record of an answer.

    name: its owner;  type: its number;  ttl_s: seconds, as the nameserver has said.
    """

    name: str
    type: int
    ttl_s: int
    data: RecordData


def data_of(rdata: Rdata, text_of: Callable[[dns.name.Name], str]) -> RecordData:
    """Return what a record says, in the shape of its type; `text_of` gives the text of a name."""
    # The classes are dnspython's own, which a type of ours can only name by the way they are made.
    if isinstance(rdata, dns.rdtypes.IN.A.A | dns.rdtypes.IN.AAAA.AAAA):
        return str(rdata.address)
    if isinstance(rdata, dns.rdtypes.nsbase.NSBase):  # NS, CNAME, PTR and DNAME
        return text_of(rdata.target)
    if isinstance(rdata, dns.rdtypes.ANY.TXT.TXT):
        return tuple(rdata.strings)
    if isinstance(rdata, dns.rdtypes.ANY.MX.MX):
        return Mx(rdata.preference, text_of(rdata.exchange))
    if isinstance(rdata, dns.rdtypes.IN.SRV.SRV):
        return Srv(rdata.priority, rdata.weight, rdata.port, text_of(rdata.target))
    if isinstance(rdata, dns.rdtypes.ANY.SOA.SOA):
        times = (rdata.refresh, rdata.retry, rdata.expire, rdata.minimum)
        primary, mailbox = text_of(rdata.mname), text_of(rdata.rname)
        return Soa(primary, mailbox, rdata.serial, *times)
    if isinstance(rdata, dns.rdtypes.ANY.CAA.CAA):
        tag, value = rdata.tag.decode("latin-1"), rdata.value.decode("latin-1")
        return Caa(rdata.flags, tag, value)
    if isinstance(rdata, dns.rdtypes.svcbbase.SVCBBase):
        return _svcb_of(rdata, text_of)
    return bytes(rdata.to_wire() or b"")


def _svcb_of(rdata: dns.rdtypes.svcbbase.SVCBBase, text_of: Callable[[dns.name.Name], str]) -> Svcb:
    alpn: tuple[str, ...] = ()
    port = None
    hints: tuple[str, ...] = ()
    params = []
    for key, value in sorted(rdata.params.items()):
        params.append((int(key), b"" if value is None else _wire_of(value)))
        if isinstance(value, dns.rdtypes.svcbbase.ALPNParam):
            alpn = tuple(each.decode("latin-1") for each in value.ids)
        elif isinstance(value, dns.rdtypes.svcbbase.PortParam):
            port = value.port
        elif isinstance(
            value, dns.rdtypes.svcbbase.IPv4HintParam | dns.rdtypes.svcbbase.IPv6HintParam
        ):
            hints += tuple(value.addresses)
    return Svcb(rdata.priority, text_of(rdata.target), alpn, port, hints, tuple(params))


def _wire_of(param: dns.rdtypes.svcbbase.Param) -> bytes:
    file = io.BytesIO()
    param.to_wire(file)  # type: ignore[attr-defined]  # all its kinds have it
    return file.getvalue()


def record_to_text(record: Record) -> str:
    """Return the data of a record as a zone file has it, names with their last dot.

    Types without a shape here are written as RFC 3597 section 5 says.
    """
    data = record.data
    if isinstance(data, str):
        return data if record.type in (_A, _AAAA) else _absolute(data)
    if isinstance(data, Mx):
        return f"{data.preference} {_absolute(data.host)}"
    if isinstance(data, Srv):
        return f"{data.priority} {data.weight} {data.port} {_absolute(data.target)}"
    if isinstance(data, Soa):
        names = f"{_absolute(data.primary)} {_absolute(data.mailbox)}"
        return " ".join([names, *map(str, data[2:])])
    if isinstance(data, Caa):
        return f"{data.flags} {data.tag} {_quoted(data.value.encode('latin-1'))}"
    if isinstance(data, Svcb):
        params = [_param_to_text(key, value) for key, value in data.params]
        return " ".join([str(data.priority), _absolute(data.target), *params])
    if isinstance(data, tuple):
        return " ".join([_quoted(each) for each in data if isinstance(each, bytes)])
    return f"\\# {len(data)} {data.hex()}".rstrip()


def type_to_text(rdtype: int) -> str:
    """Return the name of a type of records, "TYPE65280" for one that has none.

    Raises DnsArgumentError for what is no number from 0 to 65535.
    """
    if not 0 <= rdtype <= 65535:
        raise DnsArgumentError(f"not a type of records: {rdtype!r}")
    return dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rdtype))


_A, _AAAA = 1, 28


def _absolute(name: str) -> str:
    return name if name.endswith(".") else f"{name}."


def _quoted(data: bytes) -> str:
    """Return a character string as RFC 1035 section 5.1 writes it."""
    parts = []
    for byte in data:
        if byte in b'"\\':
            parts.append(f"\\{chr(byte)}")
        else:
            parts.append(chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03d}")
    return f'"{"".join(parts)}"'


def _param_to_text(key: int, value: bytes) -> str:
    return f"key{key}={_quoted(value)}" if value else f"key{key}"
