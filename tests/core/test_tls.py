"""Contexts of TLS with sane settings, and the engine between bytes and bytes."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from evsvc.core import ArgumentError, SocketError, TlsEngine, tls
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
