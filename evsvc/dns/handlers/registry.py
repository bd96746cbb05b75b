"""DnsRegistry: a zone of the program's own live endpoints, by A, AAAA and SRV records."""

from __future__ import annotations

import ipaddress
import logging
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rdtypes.IN.SRV
import dns.rrset
from dns.rrset import RRset

from ...core import EV_PERSIST, Event
from ...core.closing import Closing
from ..errors import DNS_ERR_REFUSED, DnsArgumentError, DnsStateError
from ..server.finished import ReplyGroup
from ..wire.names import name_to_text, parse_name
from .zone import NOT_AUTHORITATIVE, respond_from
from .zone_data import ZoneData

if TYPE_CHECKING:
    from ...core import EventBase
    from ..server.request import DnsServerRequest

log = logging.getLogger("evsvc.dns")

_TRANSFERS = (dns.rdatatype.AXFR, dns.rdatatype.IXFR)
_SERIALS = 2**32
_MAX_NUMBER = 65535
_SOA_TIMES = "3600 600 86400"

_LABEL = re.compile("[A-Za-z0-9](?:[A-Za-z0-9-]{0,60}[A-Za-z0-9])?")  # "_" goes before some

_IN = dns.rdataclass.IN
_make_ipv4: Callable[..., dns.rdata.Rdata] = dns.rdtypes.IN.A.A
_make_ipv6: Callable[..., dns.rdata.Rdata] = dns.rdtypes.IN.AAAA.AAAA
_make_srv: Callable[..., dns.rdata.Rdata] = dns.rdtypes.IN.SRV.SRV

Check = Callable[[], bool]
"""Says whether an endpoint is well; called from the loop, so it looks and does not wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOptions:
    """How a `DnsRegistry` answers.  Raises DnsArgumentError for a value that cannot be.

    ttl_s:     seconds for which clients may believe a record, or that there is none.
    keep_s:    for how long servers keep finished replies; every change forgets them.
    endpoints: most endpoints at a time.
    nameservers: the names of the zone's NS records; without any it has none.
    """

    ttl_s: int = 5
    keep_s: float = 3600.0
    endpoints: int = 10_000
    nameservers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.ttl_s < 2**31:
            raise DnsArgumentError(f"ttl_s must be from 0 to {2**31 - 1}: {self.ttl_s!r}")
        if not 0 <= self.keep_s < math.inf:
            raise DnsArgumentError(f"keep_s must be finite and not negative: {self.keep_s!r}")
        if self.endpoints < 1:
            raise DnsArgumentError(f"endpoints must be at least 1: {self.endpoints!r}")
        for name in self.nameservers:
            parse_name(name)


class Endpoint(Closing):
    """An address and port that serves; made by `DnsRegistry.register`.

    service, protocol: what it serves, and over what;  target: its own name, to which SRV records
    point;  address, port: where it is;  priority: of a service the lowest is used first (RFC 2782).
    """

    __slots__ = (
        "_healthy",
        "_registry",
        "_weight",
        "address",
        "check",
        "port",
        "priority",
        "protocol",
        "service",
        "target",
    )

    def __init__(
        self,
        registry: DnsRegistry,
        service: str,
        protocol: str,
        target: dns.name.Name,
        address: ipaddress.IPv4Address | ipaddress.IPv6Address,
        port: int,
        priority: int,
        weight: int,
        check: Check | None,
    ) -> None:
        self._registry: DnsRegistry | None = registry
        self.service = service
        self.protocol = protocol
        self.target = target
        self.address = address
        self.port = port
        self.priority = priority
        self._weight = weight
        self._healthy = True
        self.check = check

    @property
    def healthy(self) -> bool:
        """Whether it is answered; set it as its health changes."""
        return self._healthy

    @healthy.setter
    def healthy(self, healthy: bool) -> None:
        if bool(healthy) != self._healthy:
            self._healthy = bool(healthy)
            log.info("%s is %s", name_to_text(self.target), "well" if healthy else "not well")
            self._changed()

    @property
    def weight(self) -> int:
        """Its share of a service's clients, from 0 to 65535; with 0 only SRV tells of it."""
        return self._weight

    @weight.setter
    def weight(self, weight: int) -> None:
        _check_number("weight", weight, 0)
        if weight != self._weight:
            self._weight = weight
            self._changed()

    def close(self) -> None:
        """Take it out of the registry.  Safe to repeat.

        A name of which it was the last endpoint is no more.
        """
        registry, self._registry = self._registry, None
        if registry is not None:
            registry.forget(self)

    def _changed(self) -> None:
        if self._registry is not None:
            self._registry.update(self)


class DnsRegistry(Closing):
    """Answers for a zone with the endpoints that are registered: `DnsServer(base, registry)`.

    For the service "web" over TCP of the zone "svc.test": `web.svc.test` has the addresses of its
    endpoints that are well, `_web._tcp.svc.test` an SRV record for each of them, whose targets are
    names in the zone, too.  A change counts for the next query.  A service of which no endpoint is
    well exists, and has no records.  What is not in the zone is REFUSED, transfers are, too.

    Raises DnsArgumentError for what is no name.
    """

    __slots__ = (
        "_data",
        "_endpoints",
        "_kept",
        "_number",
        "_serial",
        "_services",
        "_stale",
        "_timer",
        "options",
    )

    def __init__(self, zone: str, *, options: RegistryOptions | None = None) -> None:
        self.options = options or RegistryOptions()
        origin = parse_name(zone)
        self._endpoints: dict[Endpoint, None] = {}
        self._services: dict[str, dict[str, dict[Endpoint, None]]] = {}  # by name and protocol
        self._stale: dict[tuple[str, str], None] = {}  # what the zone has to be told
        self._serial = 1
        self._number = 0
        self._timer: Event | None = None
        self._kept = ReplyGroup()
        records = [self._soa(origin)]
        if self.options.nameservers:
            names = [parse_name(name).to_text() for name in self.options.nameservers]
            records.append(dns.rrset.from_text(origin, self.options.ttl_s, "IN", "NS", *names))
        self._data = ZoneData(origin, records)

    @property
    def origin(self) -> str:
        """The name of the zone, without the last dot."""
        return name_to_text(self._data.origin)

    @property
    def serial(self) -> int:
        """The serial number of the zone; it grows with every change."""
        return self._serial

    def __len__(self) -> int:
        return len(self._endpoints)

    def endpoints(self, service: str, protocol: str = "tcp") -> list[Endpoint]:
        """Return the endpoints of a service, well or not, in the order of registering."""
        return list(self._services.get(service.lower(), {}).get(protocol.lower(), ()))

    def register(
        self,
        service: str,
        endpoint: tuple[str, int],
        *,
        protocol: str = "tcp",
        name: str | None = None,
        priority: int = 0,
        weight: int = 1,
        check: Check | None = None,
    ) -> Endpoint:
        """Have a service answered with a numeric address and a port, too, from now on.

        name: the endpoint's own label below the service; None makes one up.  priority, weight: as
        RFC 2782 has them.  check: says whether it is well, when `watch` asks.

        Raises DnsArgumentError for a service, protocol or name that is no label of letters,
        digits and hyphens, or is taken; for what is no address that a client could reach, such as
        0.0.0.0, and numbers out of range; DnsStateError when there are too many.
        """
        address, port = _check_endpoint(endpoint)
        service, protocol = _check_label(service), _check_label(protocol)
        _check_number("priority", priority, 0)
        _check_number("weight", weight, 0)
        if check is not None and not callable(check):
            raise DnsArgumentError(f"the check cannot be called: {check!r}")
        if len(self) >= self.options.endpoints:
            raise DnsStateError(f"there are {self.options.endpoints} endpoints already")
        self._number += 1
        label = f"e{self._number}" if name is None else _check_label(name)
        target = self._name(label, service)
        if self._data.has(target):
            raise DnsArgumentError(f"{name_to_text(target)} is there already")
        made = Endpoint(self, service, protocol, target, address, port, priority, weight, check)
        self._endpoints[made] = None
        self._services.setdefault(service, {}).setdefault(protocol, {})[made] = None
        self._data.replace_node(target, self._addresses(target, [made]))
        self.update(made)
        return made

    def watch(self, base: EventBase, every_s: float = 1.0) -> None:
        """Ask the endpoints' checks every `every_s` seconds until `close`.

        One that raises says that its endpoint is not well; it is logged.
        """
        self.close()
        self._timer = Event(base, -1, EV_PERSIST, self._on_time)
        self._timer.add(every_s)

    def close(self) -> None:
        """Ask no checks any more; it can be served all the same.  Safe to repeat."""
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def __call__(self, request: DnsServerRequest, arg: object = None) -> None:
        """Answer a request of a server."""
        question = request.questions[0]
        if not self._data.covers(request.name_key) or question.type in _TRANSFERS:
            request.add_extended_error(NOT_AUTHORITATIVE)
            request.respond(DNS_ERR_REFUSED)
            return
        if self._stale:
            self._refresh()
        request.keep_with(self._kept)
        respond_from(self._data, request, self.options.keep_s)

    def update(self, changed: Endpoint) -> None:
        """Answer by what an endpoint of ours has become."""
        self._stale[changed.service, changed.protocol] = None
        self._serial = (self._serial + 1) % _SERIALS
        self._kept.flush()

    def forget(self, endpoint: Endpoint) -> None:
        """Answer without an endpoint that is closed."""
        del self._endpoints[endpoint]
        protocols = self._services[endpoint.service]
        del protocols[endpoint.protocol][endpoint]
        if not protocols[endpoint.protocol]:
            del protocols[endpoint.protocol]
        if not protocols:
            del self._services[endpoint.service]
        self._data.replace_node(endpoint.target, [])
        self.update(endpoint)

    def _refresh(self) -> None:
        """Tell the zone what has changed since the last question; many changes are told as one."""
        for service, protocol in self._stale:
            protocols = self._services.get(service, {})
            well = [
                each
                for endpoints in protocols.values()
                for each in endpoints
                if each.healthy and each.weight
            ]
            name = self._name(service)
            self._data.replace_node(name, self._addresses(name, well))
            endpoints = protocols.get(protocol, {})
            owner = self._name("_" + service, "_" + protocol)
            self._data.replace_node(owner, self._srv(owner, endpoints), exists=bool(endpoints))
        self._stale.clear()
        self._data.set_soa(self._soa(self._data.origin))

    def _addresses(self, owner: dns.name.Name, endpoints: Iterable[Endpoint]) -> list[RRset]:
        ipv4, ipv6 = [], []
        for each in endpoints:
            text = str(each.address)
            if each.address.version == 4:
                ipv4.append(_make_ipv4(_IN, dns.rdatatype.A, text))
            else:
                ipv6.append(_make_ipv6(_IN, dns.rdatatype.AAAA, text))
        return [self._rrset(owner, records) for records in (ipv4, ipv6) if records]

    def _srv(self, owner: dns.name.Name, endpoints: Iterable[Endpoint]) -> list[RRset]:
        records = [
            _make_srv(_IN, dns.rdatatype.SRV, each.priority, each.weight, each.port, each.target)
            for each in endpoints
            if each.healthy
        ]
        return [self._rrset(owner, records)] if records else []

    def _name(self, *labels: str) -> dns.name.Name:
        return dns.name.Name([*map(str.encode, labels), *self._data.origin.labels])

    def _rrset(self, owner: dns.name.Name, records: list[dns.rdata.Rdata]) -> RRset:
        return dns.rrset.from_rdata_list(owner, self.options.ttl_s, records)

    def _soa(self, origin: dns.name.Name) -> RRset:
        ttl_s = self.options.ttl_s
        mailbox = dns.name.Name([b"hostmaster", *origin.labels])
        text = f"{origin} {mailbox} {self._serial} {_SOA_TIMES} {ttl_s}"
        return dns.rrset.from_text(origin, ttl_s, "IN", "SOA", text)

    def _on_time(self, fd: int, what: int, arg: object) -> None:
        for each in list(self._endpoints):
            if each.check is not None:
                each.healthy = _is_well(each)


def _is_well(endpoint: Endpoint) -> bool:
    assert endpoint.check is not None
    try:
        return bool(endpoint.check())
    except Exception:
        log.exception("the check of %s raised", name_to_text(endpoint.target))
        return False


def _check_endpoint(
    endpoint: tuple[str, int],
) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    try:
        host, port = endpoint
        address = ipaddress.ip_address(host)
    except (TypeError, ValueError):
        raise DnsArgumentError(f"not a numeric address and a port: {endpoint!r}") from None
    if isinstance(host, int) or address.is_unspecified or address.is_multicast:
        raise DnsArgumentError(f"not an address that clients could reach: {host!r}")
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise DnsArgumentError(f"an address with a scope is not for others: {host!r}")
    _check_number("port", port, 1)
    return address, port


def _check_number(what: str, value: int, low: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= _MAX_NUMBER:
        raise DnsArgumentError(f"the {what} must be from {low} to {_MAX_NUMBER}: {value!r}")


def _check_label(text: str) -> str:
    if not _LABEL.fullmatch(text):
        raise DnsArgumentError(f"not a label of letters, digits and hyphens: {text!r}")
    return text.lower()
