"""Randomness, and the limit of open files."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError, SocketError
from evsvc.core.util import (
    raise_nofile_limit,
    secure_rng_add_bytes,
    secure_rng_get_bytes,
    secure_rng_init,
)


@pytest.mark.parametrize("size", [1, 2, 3, 16, 37, 256])
def test_every_byte_asked_for_is_random(size: int) -> None:
    """RNG: 8 draws ORed together leave no zero byte in the requested range, and no other byte."""
    mixed = bytearray(size)
    for _ in range(8):
        drawn = secure_rng_get_bytes(size)
        assert len(drawn) == size
        mixed = bytearray(one | other for one, other in zip(mixed, drawn, strict=True))
    # A byte of eight draws is zero once in 2**64.
    assert 0 not in mixed


def test_every_value_turns_up() -> None:
    """RNG: every byte value turns up over 32 rounds."""
    seen = set(b"".join(secure_rng_get_bytes(256) for _ in range(32)))
    assert len(seen) == 256


def test_no_byte_or_fewer() -> None:
    assert secure_rng_get_bytes(0) == b""
    with pytest.raises(ArgumentError, match="-1"):
        secure_rng_get_bytes(-1)


def test_bytes_are_random_after_seeding_as_before() -> None:
    secure_rng_init()
    secure_rng_add_bytes(b"the same seed")
    first = secure_rng_get_bytes(32)
    secure_rng_add_bytes(bytearray(b"the same seed"))
    assert secure_rng_get_bytes(32) != first
    with pytest.raises(ArgumentTypeError, match="str"):
        secure_rng_add_bytes("text")  # type: ignore[arg-type]


@pytest.fixture
def hard() -> Iterator[int]:
    """Set the limit of open files to 256 for the test, and return the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_the_limit_of_open_files_is_raised(hard: int) -> None:
    assert raise_nofile_limit(257) == 257 == limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] == hard


def test_the_limit_of_open_files_is_never_lowered(hard: int) -> None:
    assert raise_nofile_limit(100) == 256 == limit()
    assert raise_nofile_limit(256) == 256 == limit()


def test_the_limit_of_open_files_goes_as_far_as_the_hard_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = [(256, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda what: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda what, pair: limits.append(pair))
    assert raise_nofile_limit(4097) == 4096
    assert raise_nofile_limit(5000) == 4096
    assert limits == [(256, 4096), (4096, 4096)]


def test_no_limit_of_open_files_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = resource.RLIM_INFINITY
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda what, pair: set_to.append(pair))
    monkeypatch.setattr(resource, "getrlimit", lambda what: (unlimited, unlimited))
    assert raise_nofile_limit(4096) == 4096
    monkeypatch.setattr(resource, "getrlimit", lambda what: (256, unlimited))
    assert raise_nofile_limit(4096) == 4096
    assert set_to == [(4096, unlimited)]


def test_a_refusal_of_the_system_is_told(monkeypatch: pytest.MonkeyPatch, hard: int) -> None:
    def refuse(what: int, pair: tuple[int, int]) -> None:
        raise ValueError("current limit exceeds maximum limit")

    with monkeypatch.context() as patched:
        patched.setattr(resource, "setrlimit", refuse)
        with pytest.raises(SocketError, match="exceeds maximum"):
            raise_nofile_limit(257)
    assert limit() == 256


@pytest.mark.parametrize("wanted", [0, -1])
def test_a_limit_of_open_files_is_positive(wanted: int) -> None:
    with pytest.raises(ArgumentError, match=str(wanted)):
        raise_nofile_limit(wanted)
