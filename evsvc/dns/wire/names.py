"""Domain names as text, and with letters that only the asked nameserver knows (0x20).

Texts that are not ASCII become the names of IDNA 2008 after the mapping of UTS 46, as browsers do
it: "faß.test" is "xn--fa-hia.test", a host of its own.  Labels of ASCII pass as they are, those
with an underscore too.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import dns.exception
import dns.name
import idna

from ..errors import DnsArgumentError

MAX_NAME_BYTES = 255
MAX_LABEL_BYTES = 63

# What is its own text, and needs no dnspython.
_PLAIN_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
_PLAIN_TEXT = _PLAIN_LETTERS + b"."
_PLAIN_NAME = re.compile(r"(?:[A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+\.?\Z")


class _Idna2008(dns.name.IDNACodec):
    """dnspython's IDNA_2008_Practical, which must not depend on what dnspython has found."""

    def encode(self, label: str) -> bytes:
        if label.isascii():
            if len(label) > MAX_LABEL_BYTES:
                raise dns.name.LabelTooLong
            return label.encode()
        try:
            return idna.alabel(idna.uts46_remap(label, False, False))
        except idna.IDNAError as exc:
            raise UnicodeError(str(exc)) from exc


class DomainName(NamedTuple):
    """An absolute name as the resolver goes by it.

    wire: its bytes, uncompressed;  text: without the trailing dot, the root's is ".".
    """

    wire: bytes
    text: str

    @property
    def dnspython(self) -> dns.name.Name:
        """The same as dnspython's."""
        return dns.name.Name(labels_of(self.wire))

    @property
    def dots(self) -> int:
        """How many dots are between its labels."""
        return len(labels_of(self.wire)) - 2


_CODEC = _Idna2008()  # type: ignore[no-untyped-call]  # dnspython's __init__ has no types


def parse_name(text: str) -> dns.name.Name:
    """Return the absolute name of a text; one without a trailing dot is taken from the root.

    Raises DnsArgumentError for no name, an empty label, one over 63 bytes, or a name over 255.
    """
    if text in ("", "@"):  # dnspython reads both as the root
        raise DnsArgumentError(f"not a domain name: {text!r}")
    if len(text) > 4 * MAX_NAME_BYTES:  # a byte may be written as \ddd
        raise DnsArgumentError(f"a name of {len(text)} characters is too long: {text[:64]!r}...")
    try:
        if _PLAIN_NAME.match(text):
            return dns.name.Name(text.encode("ascii").split(b".") + [b""][: text[-1] != "."])
        return dns.name.from_text(text, idna_codec=_CODEC)
    except (dns.exception.DNSException, UnicodeError) as exc:
        raise DnsArgumentError(f"not a domain name: {text!r} ({exc})") from None


_LENGTH_BYTES = {length: bytes((length,)) for length in range(1, MAX_LABEL_BYTES + 1)}


def domain_name(text: str) -> DomainName:
    """Return the name of a text, as `parse_name` does, and without dnspython if it is ordinary.

    Raises as that.
    """
    try:
        plain = text.encode("ascii").removesuffix(b".")
        if not plain.translate(None, _PLAIN_TEXT):
            labels = plain.split(b".")
            wire = b"".join([_LENGTH_BYTES[len(label)] + label for label in labels]) + b"\0"
            if len(wire) <= MAX_NAME_BYTES:
                return DomainName(wire, text.removesuffix("."))
    except (UnicodeEncodeError, KeyError):
        pass
    return domain_name_of(parse_name(text))


def domain_name_of(name: dns.name.Name) -> DomainName:
    """Return the same name as dnspython's, which is absolute."""
    return DomainName(wire_of(name), name_to_text(name))


def name_to_text(name: dns.name.Name) -> str:
    """Return a name as text without the trailing dot; the root is "."."""
    labels = name.labels
    if len(labels) > 1 and not labels[-1] and not b"".join(labels).translate(None, _PLAIN_LETTERS):
        return b".".join(labels[:-1]).decode("ascii")
    return name.to_text(omit_final_dot=True)


LOCALHOST_ENDING = b"\x09localhost\0"
"""With this the bytes of localhost and of all names below it end, in lower case; few others do."""


def is_localhost(wire: bytes) -> bool:
    """Return True when a name's bytes are those of localhost or below (RFC 6761 section 6.3)."""
    if not wire.lower().endswith(LOCALHOST_ENDING):
        return False
    return labels_of(wire)[-2].lower() == b"localhost"  # and no longer label that ends so


def wire_of(name: dns.name.Name) -> bytes:
    """Return an absolute name's bytes, without compression."""
    return b"".join([bytes((len(label),)) + label for label in name.labels])


def labels_of(wire: bytes) -> list[bytes]:
    """Return the labels of the name, not compressed, with which `wire` begins."""
    at, labels = 0, []
    while length := wire[at]:
        labels.append(wire[at + 1 : at + 1 + length])
        at += 1 + length
    return [*labels, b""]


_CASE_BIT = bytes(0x20 if chr(byte).isalpha() and byte < 0x80 else 0 for byte in range(256))


def randomize_case(wire: bytes, noise: bytes) -> bytes:
    """Return a name's bytes with each letter in upper or lower case by chance (0x20).

    noise: unpredictable bytes, as many.  The lengths of labels are below the first letter, so they
    stay as they are.
    """
    flips = int.from_bytes(noise, "big") & int.from_bytes(wire.translate(_CASE_BIT), "big")
    return (int.from_bytes(wire, "big") ^ flips).to_bytes(len(wire), "big")


def restore_case(name: dns.name.Name, asked: dns.name.Name, plain: dns.name.Name) -> dns.name.Name:
    """Undo our random letters where a server has compressed `name` into the question's ending."""
    labels = list(name.labels)
    pairs = zip(reversed(asked.labels), reversed(plain.labels), strict=True)
    for index, (random, known) in enumerate(pairs, start=1):
        if index > len(labels) or labels[-index] != random:
            break
        labels[-index] = known
    return dns.name.Name(labels)
