"""The fixtures under test, as users have them."""

from evsvc.testing.plugin import (
    dns_client,
    dns_handler,
    dns_server,
    event_base,
    fake_clock,
    http_client,
    http_server,
    http_url,
    rpc_client,
    rpc_server,
)

__all__ = [
    "dns_client",
    "dns_handler",
    "dns_server",
    "event_base",
    "fake_clock",
    "http_client",
    "http_server",
    "http_url",
    "rpc_client",
    "rpc_server",
]
