"""Answer: what came of a question.  Also the ones that need no nameserver (RFC 6761)."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

import dns.rdatatype
from dns.rdatatype import RdataType

from ..errors import (
    DNS_ERR_NODATA,
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    DnsArgumentError,
    DnsResult,
)
from ..wire.names import DomainName, is_localhost
from ..wire.records import Record
from ..wire.replies import Question

ABSENCES = (DNS_ERR_NODATA, DNS_ERR_NOTEXIST)
LOCALHOST_TTL_S = 3600
_LOOPBACK = {dns.rdatatype.A: "127.0.0.1", dns.rdatatype.AAAA: "::1"}


class Answer(NamedTuple):
    """What came of a look-up.

    result: DNS_ERR_NONE when there are `records`, else why there are none.
    ttl_s: seconds for which it may be believed, an absence too: the shortest time of all records
    that led to it, the aliases' included, less what it has spent in the cache.
    name: what the records belong to, the end of the aliases if there are any; None for a failure.
    authentic: whether the nameserver says that it has validated the data; False unless the option
    `trust_ad` is set.
    is_stale: whether its time was over, and no nameserver had a newer one; see `stale_s`.
    soa: the SOA record of the zone in which there is none, where it came with an absence.
    """

    result: DnsResult
    records: tuple[Record, ...] = ()
    ttl_s: int = 0
    name: str | None = None
    is_alias: bool = False
    authentic: bool = False
    is_stale: bool = False
    soa: Record | None = None

    @property
    def is_known(self) -> bool:
        """Whether it tells something of the name, be it that there is nothing."""
        return self.result == DNS_ERR_NONE or self.result in ABSENCES


def answers_of_addresses(
    name: DomainName, addresses: Iterable[str | IPv4Address | IPv6Address], ttl_s: int
) -> dict[Question, Answer]:
    """Return the answers about a name that has these addresses and no others.

    Raises DnsArgumentError for what is no IP address.
    """
    found: dict[RdataType, list[Record]] = {rdtype: [] for rdtype in _LOOPBACK}
    for given in addresses:
        try:
            address = ip_address(given)
        except ValueError:
            raise DnsArgumentError(f"not an IP address: {given!r}") from None
        rdtype = dns.rdatatype.A if address.version == 4 else dns.rdatatype.AAAA
        found[rdtype].append(Record(name.text, int(rdtype), ttl_s, str(address)))
    return {
        Question(name, rdtype): Answer(
            DNS_ERR_NONE if records else DNS_ERR_NODATA, tuple(records), ttl_s, name.text
        )
        for rdtype, records in found.items()
    }


def answer_at_home(question: Question) -> Answer | None:
    """Return the answer about localhost and what is below it, None for any other name."""
    if not is_localhost(question.name.wire):
        return None
    address = _LOOPBACK.get(question.rdtype)
    name = question.name.text
    if address is None:
        return Answer(DNS_ERR_NODATA, ttl_s=LOCALHOST_TTL_S, name=name)
    record = Record(name, int(question.rdtype), LOCALHOST_TTL_S, address)
    return Answer(DNS_ERR_NONE, (record,), LOCALHOST_TTL_S, name)
