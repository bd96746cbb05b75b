"""However a stream of requests is cut into segments, the replies are the same."""

from __future__ import annotations

import re
import socket
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from evsvc.core import EventBase, FakeClock
from evsvc.http import HttpServer, ServerOptions
from evsvc.http.wire.limits import ReaderLimits
from tests.http.conftest import echo
from tests.http.peers import Peer, request

PIECES = [
    request("/a"),
    request("/b", method="POST", body=b"body"),
    request("/c", "Transfer-Encoding: chunked", method="PUT") + b"3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    request("/d", method="HEAD"),
    request("/e", "Connection: keep-alive", version="1.0"),
    request("/f", "Expect: 100-continue", method="POST", body=b"0123456789"),
    request("/g", "Connection: close"),
    request("/h", method="PATCH"),
    request("/i", method="PATCH", body=b"GET / HTTP/1.1\r\n\r\n"),
    request("/j", method="POST", body=b"x" * 65),
    request("/k" + "x" * 70),
    request("/l", *(f"X-{number}: y" for number in range(9))),
    request("/m", "Transfer-Encoding: chunked", method="PUT") + b"zz\r\n",
    b"\r\n",
    b"GET / HTTP/2.0\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"nonsense\r\n",
    b"GET /cut HTTP/1.1\r\nHo",
    b"\0",
]
LIMITS = ReaderLimits(max_line_bytes=64, max_headers=8, max_body_bytes=64)
OPTIONS = ServerOptions(limits=LIMITS)

# Whether the server has to ask for a body depends on how much of it is there.
# And of several faults in one request, the one that shows first is told.
REFUSAL = re.compile(rb"HTTP/1\.1 [45]\d\d [^\r]*\r\nConnection: close\r\n.*\Z", re.DOTALL)
VARIABLE = re.compile(rb"HTTP/1\.1 100 Continue\r\n\r\n|Date: [^\r]*\r\n")


def replies_to(segments: list[bytes]) -> bytes:
    """Everything that a fresh server answers to the segments, followed by a half-close."""
    with EventBase(clock=FakeClock()) as base, HttpServer(base, OPTIONS) as server:
        server.set_gencb(echo)
        bound = server.bind_socket("127.0.0.1", 0)
        with socket.create_connection((bound.address, bound.port)) as sock:
            peer = Peer(base, sock)
            for segment in segments:
                if peer.ended:
                    break
                peer.send(segment)
                peer.take()
            peer.half_close()
            return REFUSAL.sub(b"refused", VARIABLE.sub(b"", peer.read_to_end()))


@settings(max_examples=150)
@given(
    pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 700), max_size=6),
)
def test_the_replies_do_not_depend_on_the_cuts(pieces: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(pieces)
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    segments = [whole[start:end] for start, end in pairwise(places)]
    assert replies_to(segments) == replies_to([whole])
