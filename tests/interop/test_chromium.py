"""Chromium, as the client that WebSockets were made for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evsvc.core import EventBase
from evsvc.http import HttpServer, websocket
from evsvc.http.websocket import WS_TEXT_FRAME, WebSocketOptions, WsConnection
from tests.interop.chromium import Browser, browser

__all__ = ["browser"]  # the fixture

pytestmark = pytest.mark.interop

SCRIPT = """
const url = `ws://${location.host}/ws`;
const told = {};

function open(path, protocols) {
  const ws = new WebSocket(url + path, protocols);
  ws.binaryType = "arraybuffer";
  return ws;
}

const ended = ws => new Promise(resolve => ws.onclose = event =>
  resolve([event.code, event.reason, event.wasClean]));

async function echo() {
  const ws = open("", ["other", "chat"]);
  await new Promise(resolve => ws.onopen = resolve);
  told.protocol = ws.protocol;
  told.extensions = ws.extensions;
  const answers = [];
  const all = new Promise(resolve => ws.onmessage = event => {
    answers.push(event.data);
    if (answers.length == 4) resolve();
  });
  ws.send("h\\u00e9llo \\ud83d\\udc0c");
  ws.send("x".repeat(500000));
  ws.send(new Uint8Array([0, 255, 10]));
  ws.send("");
  await all;
  told.text = answers[0];
  told.long = answers[1].length;
  told.bytes = Array.from(new Uint8Array(answers[2]));
  told.empty = answers[3];
  ws.close(4001, "enough");
  told.echo_ended = await ended(ws);
}

async function servers() {
  const pieces = open("/pieces");
  told.pieces = await new Promise(resolve => pieces.onmessage = event => resolve(event.data));
  told.pieces_ended = await ended(pieces);
  const large = open("/small");
  await new Promise(resolve => large.onopen = resolve);
  large.send("x".repeat(101));
  told.large_ended = await ended(large);
  told.refused_ended = await ended(open("/nothing"));
}

echo().then(servers).then(() => report(told));
"""


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase() as made:
        yield made


@pytest.fixture
def server(base: EventBase) -> Iterator[HttpServer]:
    with HttpServer(base) as made:
        yield made


@pytest.mark.parametrize("deflate", [False, True])
def test_websockets(base: EventBase, server: HttpServer, browser: Browser, deflate: bool) -> None:
    options = WebSocketOptions(deflate=deflate, ping_s=1.0)
    ended: list[tuple[int | None, str]] = []

    def echo(ws, kind, data, arg):
        (ws.send_text if kind is WS_TEXT_FRAME else ws.send_binary)(data)

    def note_end(ws: WsConnection, arg: object) -> None:
        ended.append((ws.close_code, ws.close_reason))

    def accept(got, arg):
        # A browser's page has the origin that it came from.
        ws = websocket.accept(got, echo, None, options, subprotocols=("chat",), origins=())
        ws.set_closecb(note_end)

    def accept_pieces(got, arg):
        ws = websocket.accept(got, echo, None, options)
        for number in range(3):
            ws.send_fragment(f"piece {number} ")
            ws.ping()
        ws.send_fragment("", is_last=True)
        ws.shutdown(1000, "that was all")

    def accept_small(got, arg):
        websocket.accept(got, echo, None, WebSocketOptions(max_message_bytes=100))

    server.set_cb("/ws", accept)
    server.set_cb("/ws/pieces", accept_pieces)
    server.set_cb("/ws/small", accept_small)
    told = browser.run(base, server, SCRIPT)
    assert told == {
        "protocol": "chat",
        "extensions": "permessage-deflate" if deflate else "",
        "text": "h\xe9llo \U0001f40c",
        "long": 500_000,
        "bytes": [0, 255, 10],
        "empty": "",
        "echo_ended": [4001, "enough", True],
        "pieces": "piece 0 piece 1 piece 2 ",
        "pieces_ended": [1000, "that was all", True],
        "large_ended": [1009, "", True],
        "refused_ended": [1006, "", False],
    }
    assert ended == [(4001, "enough")]


def test_a_page_of_another_origin_is_refused(
    base: EventBase, server: HttpServer, browser: Browser
) -> None:
    """The page comes from one port, and the WebSocket is on another: that is another origin."""
    with HttpServer(base) as other:
        other.set_cb("/ws", lambda got, arg: websocket.accept(got, print, origins=()))
        port = other.bind_socket("127.0.0.1", 0).port
        told = browser.run(
            base,
            server,
            f'new WebSocket("ws://127.0.0.1:{port}/ws").onclose = event => report(event.code);',
        )
    assert told == 1006
