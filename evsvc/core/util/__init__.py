"""libevent's evutil: sockets, addresses, text, time and randomness, each function by its own name.

What evutil has for C's sake alone (timeval arithmetic, snprintf, offsetof) Python has itself.
"""

from ..resolver import gai_strerror
from .addresses import (
    check_port,
    checked_family,
    family_of,
    format_sockaddr_port,
    inet_ntop,
    inet_pton,
    inet_pton_scope,
    ip_version,
    parse_sockaddr_port,
    sockaddr_cmp,
    sockaddr_is_local,
    sockaddr_is_loopback,
)
from .addrinfo import (
    AddrInfoError,
    getaddrinfo,
    service_port,
    socket_kinds,
)
from .clocks import (
    EV_MONOT_FALLBACK,
    EV_MONOT_PRECISE,
    MonotonicFlag,
    MonotonicTimer,
    date_rfc1123,
    gettimeofday,
)
from .entropy import secure_rng_add_bytes, secure_rng_get_bytes, secure_rng_init
from .nofile import raise_nofile_limit
from .sockets import (
    closesocket,
    make_listen_socket_ipv6only,
    make_listen_socket_not_ipv6only,
    make_listen_socket_reuseable,
    make_listen_socket_reuseable_port,
    make_socket_closeonexec,
    make_socket_nonblocking,
    make_tcp_listen_socket_deferred,
    set_tcp_keepalive,
    socket_error_to_string,
    socket_geterror,
    socketpair,
)
from .text import (
    ascii_strcasecmp,
    ascii_strncasecmp,
    rtrim_lws,
    strtoll,
)

__all__ = [
    "EV_MONOT_FALLBACK",
    "EV_MONOT_PRECISE",
    "AddrInfoError",
    "MonotonicFlag",
    "MonotonicTimer",
    "ascii_strcasecmp",
    "ascii_strncasecmp",
    "check_port",
    "checked_family",
    "closesocket",
    "date_rfc1123",
    "family_of",
    "format_sockaddr_port",
    "gai_strerror",
    "getaddrinfo",
    "gettimeofday",
    "inet_ntop",
    "inet_pton",
    "inet_pton_scope",
    "ip_version",
    "make_listen_socket_ipv6only",
    "make_listen_socket_not_ipv6only",
    "make_listen_socket_reuseable",
    "make_listen_socket_reuseable_port",
    "make_socket_closeonexec",
    "make_socket_nonblocking",
    "make_tcp_listen_socket_deferred",
    "parse_sockaddr_port",
    "raise_nofile_limit",
    "rtrim_lws",
    "secure_rng_add_bytes",
    "secure_rng_get_bytes",
    "secure_rng_init",
    "service_port",
    "set_tcp_keepalive",
    "sockaddr_cmp",
    "sockaddr_is_local",
    "sockaddr_is_loopback",
    "socket_error_to_string",
    "socket_geterror",
    "socket_kinds",
    "socketpair",
    "strtoll",
]
