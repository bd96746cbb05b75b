"""What the tests share that send a large file: somebody who discards it, and memory measured."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

GIB = 1 << 30
STATM = Path("/proc/self/statm")

reads_memory = pytest.mark.skipif(not STATM.exists(), reason="resident memory is in /proc")


def resident_bytes() -> int:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Discarding(threading.Thread):
    """Accepts one connection, and counts what comes without keeping it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.received_bytes = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = self._server.getsockname()

    def run(self) -> None:
        sock, _ = self._server.accept()
        memory = bytearray(1 << 20)
        with self._server, sock:
            while size := sock.recv_into(memory):
                self.received_bytes += size
