"""Addresses as text, bytes and tuples (evutil)."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.core import ArgumentError, ArgumentTypeError
from evsvc.core.util import (
    check_port,
    endpoint_of,
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
from evsvc.core.util.addresses import MAX_UNIX_PATH_BYTES

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has abstract names")
AF_INET, AF_INET6, AF_UNIX = socket.AF_INET, socket.AF_INET6, socket.AF_UNIX


@pytest.mark.parametrize("text", ["1.2.3.4", "255.255.255.255", "0.0.0.0", "127.0.0.1"])
def test_ipv4_text_comes_back_as_it_was(text: str) -> None:
    """v4 text: "1.2.3.4", "255.255.255.255" ok and canonical."""
    packed = inet_pton(AF_INET, text)
    assert packed == bytes(map(int, text.split(".")))
    assert inet_ntop(AF_INET, packed) == text


@pytest.mark.parametrize(
    "text", ["256.0.0.0", "ABC", "1.2.3.4.5", "1.2.3", "", "01.2.3.4", " 1.2.3.4", "1.2.3.4%1"]
)
def test_bad_ipv4_text_is_refused(text: str) -> None:
    """v4 text: "256.0.0.0", "ABC", "1.2.3.4.5" bad."""
    with pytest.raises(ArgumentError):
        inet_pton(AF_INET, text)


@pytest.mark.parametrize(
    "text",
    [
        "::",
        "::1",
        "::1.2.3.4",
        "ffff:1::",
        "ffff:0:1::",
        "ffff::1234",
        "ffff:102::1",
        "::9:c0a8:1:1",
        "::ffff:1.2.3.4",
        "1:2:3:4:5:6:7:8",
        "1:0:3:4:5:6:7:8",
        "1::4:0:0:7:8",
        "::102:0",
    ],
)
def test_ipv6_text_comes_back_as_it_was(text: str) -> None:
    """v6: "::", "::1", "::1.2.3.4", "ffff:1::" and so on round-trip."""
    assert inet_ntop(AF_INET6, inet_pton(AF_INET6, text)) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0:0:0:0:0:0:0:0", "::"),
        ("ffff:0000::", "ffff::"),
        ("0102::1.2.3.4", "102::102:304"),
        ("FFFF::", "ffff::"),
        ("::0.0.0.1", "::1"),
        ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
    ],
)
def test_other_ipv6_spellings_come_back_canonical(text: str, canonical: str) -> None:
    """v6: "0:0:0:0:0:0:0:0", "ffff:0000::", "0102::1.2.3.4", "FFFF::" parse, print differently."""
    assert inet_ntop(AF_INET6, inet_pton(AF_INET6, text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "foobar",
        "fo:obar",
        "ffff",
        "fffff::",
        "fffff::1",
        "::1.0.1.1000",
        "1:2:33333:4::",
        "1:2:3:4:5:6:7:8:9",
        "1::2::3",
        ":::1",
        "",
        "::1%1",
        "1.2.3.4",
    ],
)
def test_bad_ipv6_text_is_refused(text: str) -> None:
    """v6 bad: "foobar", "fo:obar", ..., nine groups, "1::2::3", ":::1"."""
    with pytest.raises(ArgumentError):
        inet_pton(AF_INET6, text)


@given(st.binary(min_size=16, max_size=16))
def test_ipv6_text_agrees_with_the_system(packed: bytes) -> None:
    text = inet_ntop(AF_INET6, packed)
    assert socket.inet_pton(AF_INET6, text) == packed
    assert inet_pton(AF_INET6, socket.inet_ntop(AF_INET6, packed)) == packed


def test_another_family_or_size_is_refused() -> None:
    with pytest.raises(ArgumentError, match="AF_INET or AF_INET6"):
        inet_pton(AF_UNIX, "1.2.3.4")
    with pytest.raises(ArgumentError, match="AF_INET or AF_INET6"):
        inet_ntop(AF_UNIX, b"1234")
    with pytest.raises(ArgumentError, match="16 bytes"):
        inet_ntop(AF_INET6, b"1234")
    with pytest.raises(ArgumentTypeError):
        inet_pton(AF_INET, 16909060)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "scope_id"),
    [("fe80::1", 0), ("fe80::1%0", 0), ("fe80::1%1", 1), ("fe80::1%4294967295", 2**32 - 1)],
)
def test_a_zone_may_be_a_number(text: str, scope_id: int) -> None:
    """Scopes: "%0" -> 0, "%1" -> 1; without a zone 0."""
    assert inet_pton_scope(AF_INET6, text) == (inet_pton(AF_INET6, "fe80::1"), scope_id)


def test_a_zone_may_be_the_name_of_an_interface() -> None:
    index, name = socket.if_nameindex()[0]
    assert inet_pton_scope(AF_INET6, f"::1%{name}") == (inet_pton(AF_INET6, "::1"), index)


@pytest.mark.parametrize(
    "text",
    ["fe80::1%does-not-exist", "fe80::1%", "fe80::1%-1", "fe80::1%4294967296", "fe80::1%1%1"],
)
def test_a_zone_that_does_not_exist_is_refused(text: str) -> None:
    """Scopes: "%does-not-exist" bad."""
    with pytest.raises(ArgumentError):
        inet_pton_scope(AF_INET6, text)


def test_only_ipv6_has_zones() -> None:
    assert inet_pton_scope(AF_INET, "1.2.3.4") == (b"\1\2\3\4", 0)
    with pytest.raises(ArgumentError):
        inet_pton_scope(AF_INET, "1.2.3.4%1")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("[ffff::1]:1000", ("ffff::1", 1000, 0, 0)),
        ("[ffff::1]", ("ffff::1", 0, 0, 0)),
        ("[ffff::1%2]:1000", ("ffff::1", 1000, 0, 2)),
        ("::1", ("::1", 0, 0, 0)),
        ("1:2::1", ("1:2::1", 0, 0, 0)),
        ("FE80::0:1%1", ("fe80::1", 0, 0, 1)),
        ("192.168.0.1:50", ("192.168.0.1", 50)),
        ("192.168.0.1:65535", ("192.168.0.1", 65535)),
        ("1.2.3.4", ("1.2.3.4", 0)),
    ],
)
def test_an_address_with_a_port_is_parsed(text: str, address: tuple[Any, ...]) -> None:
    """sockaddr parsing: "[ffff::1]:1000", "[ffff::1]", "::1", "1:2::1", "192.168.0.1:50" ok."""
    assert parse_sockaddr_port(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "[ffff::1",
        "[ffff::1]:65599",
        "[ffff::1]:0",
        "[ffff::1]:-1",
        "[ffff::1]:",
        "[ffff::1]x",
        "[1.2.3.4]:80",
        "[]",
        "192.168.0.1:65536",
        "192.168.0.1:0",
        "192.168.0.1:-1",
        "192.168.0.1:",
        "192.168.0.1:80x",
        "192.168.0.1:+80",
        "192.168.0.1:٣",
        "not an ip",
        "localhost:80",
        "",
    ],
)
def test_a_bad_address_with_a_port_is_refused(text: str) -> None:
    """sockaddr parsing: "[ffff::1" , port 65599, port 0, port -1 bad; non-IP text bad."""
    with pytest.raises(ArgumentError):
        parse_sockaddr_port(text)


def test_brackets_hold_so_many_characters() -> None:
    """Bracket content limited to 127 chars: at the limit and one beyond."""
    longest = f"::1%{'0' * 122}1"
    assert len(longest) == 127
    with pytest.raises(ArgumentError, match="no such zone"):
        parse_sockaddr_port(f"[{longest}]:80")
    with pytest.raises(ArgumentError, match="in brackets"):
        parse_sockaddr_port(f"[{longest}1]:80")


def test_only_text_is_parsed() -> None:
    with pytest.raises(ArgumentTypeError):
        parse_sockaddr_port(b"1.2.3.4")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("1.2.3.4", 80), "1.2.3.4:80"),
        (("1.2.3.4", 0), "1.2.3.4"),
        (("::1", 80), "[::1]:80"),
        (("::1", 0, 0, 0), "[::1]"),
        (("fe80:0::1", 80, 0, 3), "[fe80::1%3]:80"),
        (("fe80::1%3", 80), "[fe80::1%3]:80"),
        ("/run/x.sock", "/run/x.sock"),
        (b"/run/y.sock", "/run/y.sock"),
    ],
)
def test_an_address_is_formatted(address: Any, text: str) -> None:
    assert format_sockaddr_port(address) == text


@given(
    st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16),
    st.integers(0, 65535),
    st.integers(0, 2**32 - 1),
)
def test_formatting_is_the_inverse_of_parsing(packed: bytes, port: int, scope_id: int) -> None:
    address: tuple[Any, ...] = (inet_ntop(AF_INET, packed[:4]), port)
    if len(packed) == 16:
        address = (inet_ntop(AF_INET6, packed), port, 0, scope_id)
    assert parse_sockaddr_port(format_sockaddr_port(address)) == address


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (("1.2.3.4", 80), ("1.2.3.5", 80)),
        (("9.2.3.4", 80), ("10.2.3.4", 80)),
        (("::1", 80), ("::2", 80)),
        (("255.255.255.255", 80), ("::", 80)),
        ("/a", "/b"),
        ("/a", ("1.2.3.4", 80)),
    ],
)
def test_addresses_have_an_order(less: Any, more: Any) -> None:
    """evutil_sockaddr_cmp: by family, then by address; only the sign matters."""
    assert sockaddr_cmp(less, more) < 0 < sockaddr_cmp(more, less)
    assert sockaddr_cmp(less, less) == 0


def test_the_port_counts_only_when_asked_for() -> None:
    one, other = ("1.2.3.4", 80), ("1.2.3.4", 443)
    assert sockaddr_cmp(one, other) == 0
    assert sockaddr_cmp(one, other, include_port=True) < 0
    assert sockaddr_cmp(("::1", 9, 0, 0), ("0::1", 10), True) < 0


def test_equal_addresses_are_equal_however_spelt() -> None:
    assert sockaddr_cmp(("::1", 80), ("0:0::1", 80, 0, 0), True) == 0
    assert sockaddr_cmp("/a", b"/a") == 0


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("127.0.0.0", True),
        ("128.0.0.1", False),
        ("126.255.255.255", False),
        ("1.2.3.4", False),
        ("::1", True),
        ("::0", False),
        ("f::1", False),
        ("::501", False),
        ("::ffff:127.0.0.1", False),
    ],
)
def test_loopback_is_127_and_one(host: str, loopback: bool) -> None:
    """Loopback predicate: all of 127/8 and ::1; not 128.x, ::0, f::1, ::501."""
    assert sockaddr_is_loopback((host, 80)) is loopback


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("0.0.0.0", True),
        ("127.1.2.3", True),
        ("169.254.1.1", True),
        ("224.0.0.1", True),
        ("239.255.255.255", True),
        ("10.0.0.1", False),
        ("192.168.1.1", False),
        ("128.0.0.1", False),
        ("8.8.8.8", False),
        ("::", True),
        ("::1", True),
        ("fd00::1", True),
        ("fe80::1", True),
        ("fec0::1", True),
        ("ff02::1", True),
        ("2001:db8::1", False),
        ("f::1", False),
    ],
)
def test_local_covers_more_than_loopback(host: str, local: bool) -> None:
    """Local predicates also cover link-local, multicast and any address, and IPv6's private
    ranges; those of IPv4 are not local in libevent, either."""
    assert sockaddr_is_local((host, 80)) is local


def test_a_path_is_neither_loopback_nor_local() -> None:
    assert not sockaddr_is_loopback("/run/x.sock")
    assert not sockaddr_is_local("/run/x.sock")


def test_the_family_follows_from_the_address() -> None:
    assert family_of(("1.2.3.4", 80)) == AF_INET
    assert family_of(("::1", 80)) == AF_INET6
    assert family_of("/run/x.sock") == AF_UNIX
    for wrong in (("localhost", 80), ("1.2.3.4",), ("1.2.3.4", 65536), ()):
        with pytest.raises(ArgumentError):
            family_of(wrong)
    for wrong in (80, None, ["1.2.3.4", 80], (16909060, 80), (b"1.2.3.4", 80), ("1.2.3.4", "80")):
        with pytest.raises(ArgumentTypeError):
            family_of(wrong)


@pytest.mark.parametrize("path", ["", b"", "/run/a\0b", b"/run/a\0", "\0a\0b"])
def test_a_path_to_bind_or_connect_to_is_not_empty_and_has_no_nul_inside(path: str | bytes) -> None:
    """An unnamed peer has an empty path, and still a family."""
    with pytest.raises(ArgumentError, match="path"):
        endpoint_of(path)
    assert family_of(path) == AF_UNIX


def test_other_addresses_to_bind_or_connect_to_are_as_any() -> None:
    assert endpoint_of(("::1", 80)).family == AF_INET6
    assert [endpoint_of(path).family for path in ("/run/x", b"x", "\0name")] == [AF_UNIX] * 3
    with pytest.raises(ArgumentError, match="numeric"):
        endpoint_of(("localhost", 80))


@pytest.mark.parametrize(
    ("address", "family", "sockaddr", "text"),
    [
        (("1.2.3.4", 80), AF_INET, ("1.2.3.4", 80), "1.2.3.4:80"),
        (("::1", 80), AF_INET6, ("::1", 80, 0, 0), "[::1]:80"),
        (("0:0::1", 80, 7), AF_INET6, ("::1", 80, 7, 0), "[::1]:80"),
        (("FE80::1%3", 80), AF_INET6, ("fe80::1", 80, 0, 3), "[fe80::1%3]:80"),
        (("fe80::1", 80, 0, 3), AF_INET6, ("fe80::1", 80, 0, 3), "[fe80::1%3]:80"),
        (
            ("fe80::1%3", 80, 2**20 - 1, 3),
            AF_INET6,
            ("fe80::1", 80, 2**20 - 1, 3),
            "[fe80::1%3]:80",
        ),
        (("::1", 80, 0, 2**32 - 1), AF_INET6, ("::1", 80, 0, 2**32 - 1), "[::1%4294967295]:80"),
        ("/run/x", AF_UNIX, b"/run/x", "/run/x"),
        ("./x", AF_UNIX, b"./x", "./x"),
        (b"x", AF_UNIX, b"./x", "./x"),
        (Path("x"), AF_UNIX, b"./x", "./x"),
        (b"/\xff", AF_UNIX, b"/\xff", "/\\xff"),
        ("/\u20ac", AF_UNIX, b"/\xe2\x82\xac", "/\u20ac"),
        pytest.param("\0name", AF_UNIX, b"\0name", "@name", marks=ON_LINUX),
    ],
)
def test_an_endpoint_is_what_a_socket_takes(
    address: Any, family: int, sockaddr: Any, text: str
) -> None:
    assert endpoint_of(address) == (family, sockaddr, text)


def test_an_endpoint_is_one_already(tmp_path: Path) -> None:
    for address in (("fe80::1%3", 80), ("1.2.3.4", 0), str(tmp_path / "s")):
        endpoint = endpoint_of(address)
        assert endpoint_of(endpoint.sockaddr) == endpoint


def test_the_zone_may_be_the_name_of_an_interface() -> None:
    index, name = socket.if_nameindex()[0]
    assert endpoint_of((f"fe80::1%{name}", 80)).sockaddr == ("fe80::1", 80, 0, index)


@pytest.mark.parametrize(
    "address",
    [
        ("localhost", 80),
        ("", 80),
        ("1.2.3.4%1", 80),
        ("1.2.3", 80),
        ("fe80::1%", 80),
        ("fe80::1%no-such", 80),
        ("fe80::1%3", 80, 0, 4),
        ("1.2.3.4", 80, 0, 0),
        ("::1", 80, 0, 0, 0),
        ("::1",),
        (),
        ("::1", -1),
        ("::1", 65536),
        ("::1", 80, -1, 0),
        ("::1", 80, 2**20, 0),
        ("::1", 80, 0, -1),
        ("::1", 80, 0, 2**32),
        "localhost",
        "1.2.3.4:80",
        "/\ud800",
    ],
)
def test_what_is_no_endpoint_is_refused(address: Any) -> None:
    with pytest.raises(ArgumentError):
        endpoint_of(address)


@pytest.mark.parametrize(
    "address",
    [
        None,
        80,
        ["::1", 80],
        {"host": "::1"},
        (None, 80),
        (b"::1", 80),
        (1, 80),
        ("::1", "80"),
        ("::1", 80.0),
        ("::1", None),
        ("::1", 80, "0", 0),
        ("::1", 80, 0, None),
        bytearray(b"/x"),
    ],
)
def test_an_endpoint_of_a_wrong_type_is_named_as_a_type(address: Any) -> None:
    with pytest.raises(ArgumentTypeError):
        endpoint_of(address)


@pytest.mark.parametrize("form", [str, os.fsencode, Path])
def test_a_path_has_so_many_bytes(form: Any, tmp_path: Path) -> None:
    """At the limit the kernel takes it, one beyond it is refused; characters do not count."""
    room = MAX_UNIX_PATH_BYTES - len(os.fsencode(tmp_path)) - 1
    assert room > 9
    longest = tmp_path / ("\u20ac" * (room // 3) + "x" * (room % 3))
    with socket.socket(AF_UNIX) as sock:
        sock.bind(endpoint_of(form(longest)).sockaddr)
    with pytest.raises(ArgumentError, match="too long"):
        endpoint_of(form(f"{longest}x"))


@ON_LINUX
def test_an_abstract_name_has_one_byte_more() -> None:
    longest = b"\0" + secrets.token_hex().encode() * 2
    longest = longest[: MAX_UNIX_PATH_BYTES + 1].ljust(MAX_UNIX_PATH_BYTES + 1, b"x")
    with socket.socket(AF_UNIX) as sock:
        sock.bind(endpoint_of(longest).sockaddr)
        assert sock.getsockname() == longest
    with pytest.raises(ArgumentError, match="too long"):
        endpoint_of(longest + b"x")


def test_elsewhere_than_on_linux_there_are_no_abstract_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ArgumentError, match="NUL"):
        endpoint_of("\0name")


def test_versions_and_ports_are_checked() -> None:
    assert (ip_version("1.2.3.4"), ip_version("::1%lo"), ip_version("localhost")) == (4, 6, None)
    assert check_port(0) == 0
    assert check_port(65535, lowest=1) == 65535
    for port, lowest in ((-1, 0), (0, 1), (65536, 0)):
        with pytest.raises(ArgumentError, match=str(port)):
            check_port(port, lowest)
    wrong: Any
    for wrong in ("80", 80.0, None):
        with pytest.raises(ArgumentTypeError, match="port"):
            check_port(wrong)
    for wrong in (16909060, b"1.2.3.4", None):
        with pytest.raises(ArgumentTypeError, match="host"):
            ip_version(wrong)
