"""What stands around the server leaves nothing to the cyclic collector, however a client ends."""

from __future__ import annotations

import gc

import pytest

from evsvc.http import CompressionOptions, EventStreamOptions, TrustedProxies
from tests.http.peers import request

ACCEPT = "Accept-Encoding: gzip"


def end_stream(got):
    with got.start_event_stream() as stream:
        stream.send("x")


def overflow_stream(got):
    stream = got.start_event_stream(EventStreamOptions(max_backlog_bytes=10_000))
    assert not stream.send("x" * 20_000)


def pack_otherwise(got):
    got.set_compression(CompressionOptions(codings=("gzip",)))
    got.send_reply(200, None, b"x" * 5000)


@pytest.mark.parametrize(
    "answer",
    [
        lambda got: got.send_reply(200, None, got.client.address.encode() * 500),
        lambda got: got.send_reply(200, None, bytes(4_000_000)),
        lambda got: got.start_event_stream().send("x"),
        lambda got: got.set_compression(CompressionOptions()),
        end_stream,
        overflow_stream,
        pack_otherwise,
    ],
)
@pytest.mark.parametrize("leave", ["reset", "half_close"])
def test_nothing_is_left_to_the_collector(serve, clock, answer, leave) -> None:
    def callback(got, arg):
        answer(got)

    site = serve(callback)
    server = site.server
    server.add_observer(lambda exchange: None)
    server.metrics  # noqa: B018  # it begins to count
    server.set_compression(CompressionOptions())
    server.set_trusted_proxies(TrustedProxies(["127.0.0.1"]))

    def come_and_go():
        peer = site.connect(receive_bytes=4096)
        peer.send(request("/", ACCEPT, "X-Forwarded-For: 192.0.2.1"))
        getattr(peer, leave)()
        clock.advance(server.options.idle_s + server.options.write_s)
        peer.settle()
        peer.close()
        site.peers.clear()

    come_and_go()  # what is loaded or made once is made now
    gc.collect()
    gc.disable()
    try:
        come_and_go()
        assert server.connection_count == 0
        assert gc.collect() == 0
    finally:
        gc.enable()
