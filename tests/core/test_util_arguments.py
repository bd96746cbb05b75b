"""What evutil's functions cannot take is refused by an error of our own, no built-in one."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evsvc.core import AddrInfoHints, ArgumentTypeError, Error, gai_strerror, util

WRONG: list[Any] = [None, "x", "", b"x", 1.5, -1, 2**80, object(), [], (), {}, ("::1",), print]

# Each function, with arguments that are good; one after the other is replaced by what is not.
CALLS: dict[str, list[Any]] = {
    "MonotonicTimer": [0],
    "ascii_strcasecmp": ["a", "b"],
    "ascii_strncasecmp": ["a", "b", 1],
    "check_port": [80, 0],
    "closesocket": [-1],
    "date_rfc1123": [0],
    "endpoint_of": [("::1", 80)],
    "family_of": [("::1", 80)],
    "format_sockaddr_port": [("::1", 80)],
    "gai_strerror": [0],
    "getaddrinfo": ["::1", 80, AddrInfoHints()],
    "inet_ntop": [socket.AF_INET, b"1234"],
    "inet_pton": [socket.AF_INET, "1.2.3.4"],
    "inet_pton_scope": [socket.AF_INET6, "::1"],
    "ip_version": ["::1"],
    "make_listen_socket_ipv6only": [socket.socket],
    "make_listen_socket_not_ipv6only": [socket.socket],
    "make_listen_socket_reuseable": [socket.socket],
    "make_listen_socket_reuseable_port": [socket.socket],
    "make_socket_closeonexec": [socket.socket],
    "make_socket_nonblocking": [socket.socket],
    "make_tcp_listen_socket_deferred": [socket.socket],
    "parse_sockaddr_port": ["[::1]:80"],
    "raise_nofile_limit": [1],
    "rtrim_lws": ["a "],
    "secure_rng_add_bytes": [b"x"],
    "secure_rng_get_bytes": [1],
    "service_port": [80, AddrInfoHints()],
    "set_tcp_keepalive": [socket.socket, True, 60],
    "set_tcp_nodelay": [socket.socket, True],
    "sockaddr_cmp": [("::1", 80), ("::2", 80)],
    "sockaddr_is_local": [("::1", 80)],
    "sockaddr_is_loopback": [("::1", 80)],
    "socket_error_to_string": [1],
    "socket_geterror": [socket.socket],
    "socket_kinds": [AddrInfoHints()],
    "socketpair": [socket.AF_UNIX, socket.SOCK_STREAM, 0],
    "strtoll": ["1", 10],
}
UNJUDGED = {
    "EV_MONOT_FALLBACK",
    "EV_MONOT_PRECISE",
    "AddrInfoError",
    "Endpoint",
    "MonotonicFlag",
    "gettimeofday",
    "secure_rng_init",
}


@pytest.fixture(autouse=True)
def limit_of_open_files() -> Iterator[None]:
    """Set the limit back that a test has raised."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_every_function_is_judged_here() -> None:
    assert set(CALLS) | UNJUDGED == set(util.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_argument_is_an_error_of_our_own(name: str) -> None:
    """Some may do as they are, such as text where an address is wanted."""
    function: Callable[..., Any] = getattr(util, name)
    for at in range(len(CALLS[name])):
        for wrong in WRONG:
            with socket.socket(socket.AF_INET6) as sock:
                arguments = [sock if each is socket.socket else each for each in CALLS[name]]
                arguments[at] = wrong
                try:
                    made = function(*arguments)
                except Error:
                    continue
                if name == "socketpair":
                    for end in made:
                        end.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda: util.MonotonicTimer("2"),  # type: ignore[arg-type]
        lambda: util.MonotonicTimer(source=5),  # type: ignore[arg-type]
        lambda: util.ascii_strcasecmp("a", 5),  # type: ignore[arg-type]
        lambda: util.rtrim_lws(b"a "),  # type: ignore[arg-type]
        lambda: util.strtoll(b"5"),  # type: ignore[arg-type]
        lambda: util.date_rfc1123("now"),  # type: ignore[arg-type]
        lambda: util.secure_rng_get_bytes("8"),  # type: ignore[arg-type]
        lambda: util.raise_nofile_limit("256"),  # type: ignore[arg-type]
        lambda: util.inet_ntop(socket.AF_INET, "1234"),  # type: ignore[arg-type]
        lambda: util.getaddrinfo(b"::1", 80),  # type: ignore[arg-type]
        lambda: util.getaddrinfo("::1", 80.0),  # type: ignore[arg-type]
        lambda: util.getaddrinfo("::1", 80, socket.AF_INET6),  # type: ignore[arg-type]
        lambda: util.set_tcp_nodelay(5),  # type: ignore[arg-type]
        lambda: util.make_socket_nonblocking("5"),  # type: ignore[arg-type]
        lambda: util.closesocket("5"),  # type: ignore[arg-type]
        lambda: util.socketpair("1"),  # type: ignore[arg-type]
        lambda: util.socket_error_to_string("5"),  # type: ignore[arg-type]
        lambda: gai_strerror("5"),  # type: ignore[arg-type]
        lambda: AddrInfoHints("2"),  # type: ignore[arg-type]
        lambda: AddrInfoHints(flags=1.0),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_type_is_named_as_a_type(call: Callable[[], object]) -> None:
    with pytest.raises(ArgumentTypeError):
        call()


def test_a_closed_file_is_no_descriptor(tmp_path: Path) -> None:
    with (tmp_path / "x").open("w") as file:
        pass
    with pytest.raises(Error):
        util.make_socket_nonblocking(file)


def test_a_broken_down_time_out_of_range_is_refused() -> None:
    with pytest.raises(Error):
        util.date_rfc1123(time.struct_time((10**9, 1, 1, 0, 0, 0, 0, 1, 0)))
