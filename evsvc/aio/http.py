"""Requests as coroutines, and bodies as they come and go: for HttpClient, and for handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ..core import StateError
from ..http import HttpClient, ServerRequest
from ..http.errors import ClientGone
from .inbox import MAX_WAITING, Inbox
from .outcome import Outcome
from .upload import Upload

if TYPE_CHECKING:
    from ..http import ClientExchange, ClientResponse


async def fetch(client: HttpClient, method: str, url: str, **more: Any) -> ClientResponse:
    """Send a request, and return its answer with the whole body.

    more: as of `HttpClient.request`, such as headers, body, json or timeout_s; `body` may be an
    async iterable of bytes, too, which is asked for more as the server takes it.  Cancelled, it
    gives the request up.  Raises an HttpError where there is no answer, StateError when the client
    is closed meanwhile, what the body raises, and as `HttpClient.request`; for a status from 400 on
    see `ClientResponse.raise_for_error`.
    """
    outcome: Outcome[ClientResponse] = Outcome()
    upload = Upload(more)
    exchange = client.request(method, url, lambda response, arg: outcome.succeed(response), **more)
    exchange.set_abandoned_cb(outcome.abandoned)
    upload.start(exchange, outcome.fail)
    try:
        response = await outcome
    finally:
        upload.stop()
        exchange.cancel()
    if response.error is not None:
        raise response.error
    return response


class OpenResponse:
    """An answer whose body is taken as it comes, with `async for`; `open_response` makes it.

    response: status, reason, headers and url of the answer; when the body is over, all of it but
    the body.
    """

    __slots__ = ("_pieces", "response")

    def __init__(self, response: ClientResponse, pieces: Inbox[bytes]) -> None:
        self.response = response
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece; raises an HttpError where the body breaks off."""
        return await self._pieces.take()


@asynccontextmanager
async def open_response(
    client: HttpClient, method: str, url: str, *, max_waiting: int = MAX_WAITING, **more: Any
) -> AsyncIterator[OpenResponse]:
    """Send a request, and give its answer when the header is there: `async for` takes the body.

    max_waiting: how many pieces wait, each what one read has brought, before the server is held
    back.  more: as of `fetch`.  At the end of the block what is left is given up.
    Raises as `fetch`, in the block where the body breaks off.
    """
    head: Outcome[ClientResponse] = Outcome()
    pieces: Inbox[bytes] = Inbox(max_waiting, lambda: exchange.pause(), lambda: exchange.resume())

    upload = Upload(more)

    def on_done(response: ClientResponse, arg: object) -> None:
        if response.error is not None:
            fail(response.error)
        pieces.end()
        head.succeed(response)

    def on_abandoned() -> None:
        fail(StateError("the client was closed before it had the whole answer"))

    def fail(error: BaseException) -> None:
        head.fail(error)
        pieces.end(error)

    exchange: ClientExchange = client.request(
        method,
        url,
        on_done,
        headcb=lambda exchange, response, arg: head.succeed(response),
        datacb=lambda exchange, data, arg: pieces.put(data),
        **more,
    )
    exchange.set_abandoned_cb(on_abandoned)
    upload.start(exchange, fail)
    try:
        yield OpenResponse(await head, pieces)
    finally:
        upload.stop()
        exchange.cancel()


class RequestBody:
    """The body of a request that arrived, taken with `async for`; `body_pieces` makes it."""

    __slots__ = ("_pieces",)

    def __init__(self, pieces: Inbox[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece; raises ClientGone where the body breaks off."""
        return await self._pieces.take()


def body_pieces(request: ServerRequest, *, max_waiting: int = MAX_WAITING) -> RequestBody:
    """Take the body of a request as it comes, in the coroutine that handles it.

    For the handler of a path that was set with `streams=True`; what has come whole is one piece.
    max_waiting: how many pieces wait, each what one read has brought, before the client is held
    back.  Raises LocalProtocolError when the body is taken already.
    """
    pieces: Inbox[bytes] = Inbox(max_waiting, request.pause_body, request.resume_body)

    def on_end(request: ServerRequest, is_whole: bool, arg: object) -> None:
        pieces.end(None if is_whole else ClientGone("the body of the request is not whole"))

    if request.streams_body:
        request.set_body_cbs(lambda request, data, arg: pieces.put(bytes(data)), on_end)
    else:
        whole = request.take_body()
        if whole:
            pieces.put(whole)
        pieces.end()
    return RequestBody(pieces)


async def send_piece(request: ServerRequest, data: bytes | bytearray | memoryview) -> None:
    """Send a piece of a reply that `send_reply_start` has begun, and wait until the kernel has it.

    So a slow client slows the task, whose end of it is that of the client, as `handler` has it.
    Raises ClientGone where the client has gone before, and as `ServerRequest.send_reply_chunk`.
    """
    sent: Outcome[None] = Outcome()
    request.send_reply_chunk(data, lambda connection, arg: sent.succeed(None))
    if request.connection is None:
        raise ClientGone("the client has gone before it had the whole reply")
    await sent
