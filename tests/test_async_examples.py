"""The examples with coroutines run as they stand."""

from __future__ import annotations

import re
import signal
import urllib.request

import pytest
from websockets.sync import client as websocket_client

from tests.test_examples import lines_of, run, started


def test_async_counter_counts_and_adds() -> None:
    assert lines_of(run("async_counter.py")) == ["1", "2", "3", "4", "5", "sum: 15"]


def test_async_attached_asks_its_own_name_server() -> None:
    assert lines_of(run("async_attached.py")) == [
        "printer.example: 192.0.2.7",
        "scanner.example: 192.0.2.8",
        "nowhere.example A: name does not exist",
    ]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_async_site_answers_from_coroutines_and_stops_well(signum: signal.Signals) -> None:
    with started("async_site.py", "0") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(url, timeout=20) as reply:
            assert reply.read() == b"They say: sunny\n"
        address = re.sub("^http(.*)/weather$", r"ws\1/upper", url)
        with websocket_client.connect(address, proxy=None) as session:
            session.send("hello")
            assert session.recv() == "HELLO"
            process.send_signal(signum)
            assert process.wait(20) == 0
        assert process.stderr.read() == ""
