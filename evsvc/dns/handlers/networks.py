"""Which clients may do a thing: core's networks, with the errors of DNS."""

from __future__ import annotations

from collections.abc import Iterable

from ...core import networks
from ...core.errors import ArgumentError
from ..errors import DnsArgumentError


class Networks(networks.Networks):
    """Networks of IP addresses.  Raises DnsArgumentError for what is no network."""

    __slots__ = ()

    def __init__(self, texts: Iterable[str]) -> None:
        if isinstance(texts, str):
            raise DnsArgumentError(f"a list of networks is wanted: {texts!r}")
        try:
            super().__init__(texts)
        except ArgumentError as exc:
            raise DnsArgumentError(str(exc)) from None
