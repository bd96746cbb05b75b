"""The examples of hosted applications run as they stand, as a user would run them."""

from __future__ import annotations

import json
import signal
import urllib.request

from websockets.sync import client as websocket_client

from tests.test_examples import next_line, serving, started

TIMEOUT_S = 30


def get(url: str, data: bytes | None = None) -> bytes:
    with urllib.request.urlopen(url, data, TIMEOUT_S) as reply:
        body: bytes = reply.read()
        return body


def test_flask_app_answers_in_pieces_too_and_ends_gracefully() -> None:
    with started("flask_app.py", "0") as process:
        url = next_line(process, process.stdout).strip()
        assert get(url) == b"Hello, World!\n"
        assert get(f"{url}?name=Ann") == b"Hello, Ann!\n"
        assert get(f"{url}count") == b"1\n2\n3\n"
        assert get(f"{url}upload", b"x" * 1_000_000) == b"1000000 bytes\n"
        with urllib.request.urlopen(f"{url}events", timeout=TIMEOUT_S) as events:
            assert events.readline() == b"data: 1 are listening\n"
            process.send_signal(signal.SIGTERM)
            assert next(line for line in events if line.startswith(b"event")) == b"event: stop\n"
        _, errors = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, errors) == (0, "")


def test_flask_app_answers_beside_what_lasts() -> None:
    with (
        serving("flask_app.py") as (line, _),
        urllib.request.urlopen(f"{line.strip()}events", timeout=TIMEOUT_S) as first,
        urllib.request.urlopen(f"{line.strip()}events", timeout=TIMEOUT_S) as second,
    ):
        assert first.readline() == b"data: 1 are listening\n"
        assert second.readline() == b"data: 2 are listening\n"
        assert get(line.strip()) == b"Hello, World!\n"


def test_fastapi_app_streams_echoes_and_ends_in_order() -> None:
    with started("fastapi_app.py", "0") as process:
        url = next_line(process, process.stdout).strip()
        assert json.loads(get(url)) == {"message": "Hello, World!", "visits": 1}
        assert json.loads(get(f"{url}?name=Ann")) == {"message": "Hello, Ann!", "visits": 1}
        assert json.loads(get(url))["visits"] == 2
        assert get(f"{url}count") == b"1\n2\n3\n"
        assert get(f"{url}plain") == b"by a callback\n"
        place = url.replace("http:", "ws:") + "echo"
        with websocket_client.connect(place, proxy=None) as session:
            session.send("there and back")
            assert session.recv(TIMEOUT_S) == "there and back"
        assert next_line(process, process.stdout) == "a client has left\n"
        process.send_signal(signal.SIGTERM)
        printed, errors = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, printed, errors) == (0, "stopped in order\n", "")
