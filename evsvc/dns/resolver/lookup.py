"""Lookup: the handle of a look-up."""

from __future__ import annotations

from collections.abc import Callable


class Lookup:
    """The handle of one look-up, which can only give it up (struct evdns_request)."""

    __slots__ = ("_give_up",)

    def __init__(self, give_up: Callable[[], object]) -> None:
        self._give_up = give_up

    def cancel(self) -> None:
        """Give the look-up up: its callback gets DNS_ERR_CANCEL or EVUTIL_EAI_CANCEL from the loop.

        Does nothing once the callback was called, or told so before.  Others that wait for the
        same question go on.  Source: evdns_cancel_request, evdns_getaddrinfo_cancel.
        """
        self._give_up()
