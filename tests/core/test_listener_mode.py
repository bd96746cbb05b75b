"""The permissions of a Unix listener's file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError, ConnListener, EventBase, SocketError


@pytest.mark.parametrize("mode", [0, 0o600, 0o666, 0o777])
def test_they_are_what_was_asked_for_whatever_the_umask(
    base: EventBase, tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "s"
    before = os.umask(0o077)
    try:
        with ConnListener.new_bind(base, None, address=str(path), mode=mode):
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)
    assert not path.exists()


@pytest.mark.parametrize("mode", [-1, 0o1000])
def test_others_are_refused_before_there_is_a_file(
    base: EventBase, tmp_path: Path, mode: int
) -> None:
    with pytest.raises(ArgumentError, match=str(mode)):
        ConnListener.new_bind(base, None, address=str(tmp_path / "s"), mode=mode)
    with pytest.raises(ArgumentTypeError):
        ConnListener.new_bind(base, None, address=str(tmp_path / "s"), mode="600")  # type: ignore[arg-type]
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("address", [("127.0.0.1", 0), "\0evsvc-without-a-file"])
def test_without_a_file_there_are_none(base: EventBase, address: object) -> None:
    with pytest.raises(ArgumentError, match="permissions"):
        ConnListener.new_bind(base, None, address=address, mode=0o600)  # type: ignore[arg-type]


def test_where_they_cannot_be_set_nothing_stays(
    base: EventBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: object, mode: int) -> None:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(os, "chmod", fail)
    with pytest.raises(SocketError, match="not permitted"):
        ConnListener.new_bind(base, None, address=str(tmp_path / "s"), mode=0o600)
    assert not (tmp_path / "s").exists()
