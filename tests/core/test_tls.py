"""Contexts of TLS with sane settings, and the engine between bytes and bytes."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from evsvc.core import (
    ArgumentError,
    ArgumentTypeError,
    SocketError,
    TlsEngine,
    tls,
)
from tests.core.tls_ends import (
    HOST,
    authority,
    client_context_for,
    contexts,
    exchange,
    issue,
    server_context_for,
    shaken_engines,
    write_pem,
)


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    return write_pem(issue(HOST), tmp_path / "server.pem")


def test_a_client_verifies_the_host_and_speaks_1_2_or_later() -> None:
    context = tls.client_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_a_client_trusts_whom_it_is_told_to_alone(tmp_path: Path) -> None:
    cafile = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(cafile)
    for context in (
        tls.client_context(cafile=cafile),
        tls.client_context(cadata=cafile.read_text()),
    ):
        assert len(context.get_ca_certs()) == 1


def test_a_server_speaks_1_2_or_later_and_asks_nobody(pem: Path) -> None:
    context = tls.server_context(pem)
    assert context.verify_mode is ssl.CERT_NONE
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert server_context_for(issue(HOST), asks_clients=True).verify_mode is ssl.CERT_REQUIRED


def encrypted(cert: trustme.LeafCert, path: Path, password: bytes) -> Path:
    key = load_pem_private_key(cert.private_key_pem.bytes(), None)
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
    )
    return path


def test_an_encrypted_key_wants_its_password(tmp_path: Path) -> None:
    """Nobody is asked at the terminal, which would block the loop."""
    cert = issue(HOST)
    chain = write_pem(cert, tmp_path / "chain.pem")
    key = encrypted(cert, tmp_path / "key.pem", b"open sesame")
    with pytest.raises(ArgumentError, match="password"):
        tls.server_context(chain, key)
    with pytest.raises(SocketError, match=r"key\.pem"):
        tls.server_context(chain, key, password="wrong")
    tls.server_context(chain, key, password="open sesame")
    tls.server_context(chain, key, password=lambda: b"open sesame")
    with pytest.raises(ArgumentError, match="password"):
        tls.reload_certificate(contexts()[1], chain, key)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: tls.server_context(path),
        lambda path: tls.server_context(path.parent / "server.pem", path),
        lambda path: tls.server_context(path.parent / "server.pem", client_cafile=path),
        lambda path: tls.client_context(cafile=path),
        lambda path: tls.client_context(cert=path),
        lambda path: tls.reload_certificate(contexts()[1], path),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    pem: Path, tmp_path: Path, make: Callable[[Path], object]
) -> None:
    missing, nonsense = tmp_path / "missing.pem", tmp_path / "nonsense.pem"
    nonsense.write_text("-----BEGIN NONSENSE-----\n")
    with pytest.raises(SocketError, match=r"missing\.pem.*No such file"):
        make(missing)
    with pytest.raises(SocketError, match=r"nonsense\.pem"):
        make(nonsense)


@pytest.mark.parametrize("cadata", ["", b"", "nonsense", b"nonsense"])
def test_no_certificate_is_not_the_trust_of_the_system(cadata: str | bytes) -> None:
    with pytest.raises((ArgumentError, SocketError), match="certificate"):
        tls.client_context(cadata=cadata)


@pytest.mark.parametrize("alpn", [[""], ["x" * 256], ["h\u00b2"], "h2"])
def test_alpn_names_are_checked(alpn: list[str]) -> None:
    """1 to 255 characters (RFC 7301 section 3.1)."""
    with pytest.raises(ArgumentError, match="ALPN"):
        tls.client_context(alpn=alpn)
    tls.client_context(alpn=["x" * 255, "y"])


@pytest.mark.parametrize("alpn", [[5], [b"h2"], ["h2", None], 5, b"h2"])
def test_alpn_names_are_text(alpn: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="ALPN"):
        tls.client_context(alpn=alpn)


def test_a_list_of_alpn_names_has_65535_bytes_at_most() -> None:
    """With a byte of length before each (RFC 7301 section 3.1)."""
    names = ["x" * 255] * 255
    tls.client_context(alpn=[*names, "x" * 254])
    with pytest.raises(ArgumentError, match="ALPN names are 65535 bytes at most: 65536"):
        tls.client_context(alpn=[*names, "x" * 255])


def test_a_server_wants_a_certificate_and_a_key_goes_with_one(pem: Path) -> None:
    """Without, a context would be made that shows none."""
    nothing: Any = None
    with pytest.raises(ArgumentTypeError, match="cert"):
        tls.server_context(nothing)
    with pytest.raises(ArgumentTypeError, match="cert"):
        tls.reload_certificate(contexts()[1], nothing)
    with pytest.raises(ArgumentError, match="a key goes with a certificate"):
        tls.client_context(key=pem)


@pytest.mark.parametrize(
    "make",
    [
        lambda path, wrong: tls.server_context(wrong),
        lambda path, wrong: tls.server_context(path, wrong),
        lambda path, wrong: tls.server_context(path, client_cafile=wrong),
        lambda path, wrong: tls.client_context(cafile=wrong),
        lambda path, wrong: tls.client_context(cert=wrong),
        lambda path, wrong: tls.client_context(cert=path, key=wrong),
        lambda path, wrong: tls.client_context(key=wrong),
        lambda path, wrong: tls.reload_certificate(contexts()[1], wrong),
    ],
)
def test_what_is_no_path_is_refused(pem: Path, make: Callable[[Path, Any], object]) -> None:
    """An empty one, too: OpenSSL would take it for none, and trust whom the system trusts."""
    with pytest.raises(ArgumentTypeError, match="5"):
        make(pem, 5)
    for path in ("", b"", "a\0b"):
        with pytest.raises(ArgumentError, match="not empty"):
            make(pem, path)


def test_certificates_to_trust_are_ascii_text_or_bytes() -> None:
    wrong: Any = 5
    with pytest.raises(ArgumentTypeError, match="cadata"):
        tls.client_context(cadata=wrong)
    with pytest.raises(ArgumentError, match="ASCII"):
        tls.client_context(cadata="\u00e9")


def test_a_password_is_text_bytes_or_a_function(pem: Path) -> None:
    wrong: Any = 5
    with pytest.raises(ArgumentTypeError, match="password"):
        tls.server_context(pem, password=wrong)


@pytest.mark.parametrize("wrong", [None, "context"])
def test_what_is_no_context_is_refused(pem: Path, wrong: Any) -> None:
    for server_side in (False, True):
        with pytest.raises(ArgumentTypeError, match="SSLContext"):
            TlsEngine(wrong, server_side=server_side, server_hostname=HOST)
    with pytest.raises(ArgumentTypeError, match="SSLContext"):
        tls.reload_certificate(wrong, pem)


@pytest.mark.parametrize("side", [0, 1])
def test_a_host_name_is_text(side: int) -> None:
    wrong: Any = 5
    with pytest.raises(ArgumentTypeError, match="host name"):
        TlsEngine(contexts()[side], server_side=bool(side), server_hostname=wrong)


@pytest.mark.parametrize(
    ("server_side", "host", "said"),
    [
        (False, None, "server_hostname is wanted"),
        (False, "", "server_hostname is wanted"),
        (False, ".example", r"'\.example'"),
        (False, "a\0b", "'a"),
        (True, None, "PROTOCOL_TLS_CLIENT"),
    ],
)
def test_an_engine_wants_a_context_that_fits(
    server_side: bool, host: str | None, said: str
) -> None:
    with pytest.raises(ArgumentError, match=said):
        TlsEngine(contexts()[0], server_side=server_side, server_hostname=host)


def test_a_client_that_checks_no_name_needs_none() -> None:
    context = client_context_for()
    context.check_hostname = False
    assert TlsEngine(context, server_side=False).ssl.server_hostname is None


def test_a_close_notify_does_not_swallow_what_has_come() -> None:
    """Data, and the peer's own end after them."""
    client, server = shaken_engines()
    server.ssl.write(b"data")
    server.close_notify()
    exchange(client, server)
    client.close_notify()
    assert client.ssl.read() == b"data"
    exchange(client, server)
    for engine in (client, server):
        with pytest.raises(ssl.SSLZeroReturnError):
            engine.ssl.read()


def test_a_close_notify_before_the_handshake_is_an_error() -> None:
    engine = TlsEngine(contexts()[1], server_side=True)
    engine.incoming.write(b"kept")
    with pytest.raises(ssl.SSLError):
        engine.close_notify()
    assert engine.incoming.read() == b"kept"
