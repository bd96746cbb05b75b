"""`evsvc fetch URL`: one request, its answer on standard output or in a file."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import BinaryIO

from ..core import EvBuffer, EventBase
from ..core.resolver import AddrInfo, AddrInfoHints, Cancellable, LateCallback, ResolveCallback
from ..dns import Resolver
from ..http import (
    ClientExchange,
    ClientOptions,
    ClientResponse,
    ConnectTimes,
    HttpClient,
    HttpClientOptions,
    Proxies,
    RedirectPolicy,
)
from . import connecting
from .saving import ProgressBar, saved_as

MAX_REDIRECTS = 10
FORM = "application/x-www-form-urlencoded"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evsvc fetch`."""
    parser.epilog = (
        "http_proxy, https_proxy and no_proxy of the environment are heeded.  Exit codes: 0 an "
        "answer came, 1 none came, or with --fail one from 400 on, 2 bad usage"
    )
    parser.add_argument("url", metavar="URL", help="http[s]://host[:port]/path")
    parser.add_argument("-i", "--include", action="store_true", help="print the header, too")
    parser.add_argument(
        "-X", "--request", metavar="METHOD", help="the method (default: GET, with -d POST)"
    )
    parser.add_argument(
        "-H",
        "--header",
        action="append",
        type=_field,
        default=[],
        metavar="NAME: VALUE",
        help="a field of the request; may be repeated",
    )
    parser.add_argument(
        "-d", "--data", metavar="TEXT", help="the body; @FILE for a file's bytes, @- for the input"
    )
    parser.add_argument("-L", "--location", action="store_true", help="follow redirects")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write the body there, once all of it has come"
    )
    parser.add_argument(
        "--compressed", action="store_true", help="ask for a packed body, and unpack it"
    )
    parser.add_argument(
        "--fail", action="store_true", help="take a status from 400 on for a failure"
    )
    parser.add_argument(
        "--timing",
        action="store_true",
        help="say on standard error when each step was done, in seconds from the start",
    )
    connecting.add_arguments(parser)
    parser.set_defaults(run=run)


def _field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError(f"a field has a colon: {text!r}")
    return name, value.strip()


def run(args: argparse.Namespace) -> int:
    """Make the request and write what comes; raises why there is no answer."""
    options = HttpClientOptions(
        connection=ClientOptions(connect_s=args.timeout, read_s=args.timeout, write_s=args.timeout),
        redirects=RedirectPolicy(max_redirects=MAX_REDIRECTS if args.location else 0),
        decode=args.compressed,
    )
    with (
        EventBase() as base,
        connecting.make_resolver(base, args.nameserver) as resolver,
        contextlib.ExitStack() as stack,
    ):
        names = TimedResolver(base, resolver)
        proxies = Proxies.from_environment()
        client = stack.enter_context(HttpClient(base, names, options, proxies=proxies))
        fetch = Fetch(base, args, stack)
        began_at = base.gettime_monotonic()
        fetch.start(client)
        base.dispatch()
        response = fetch.take_response()
        if args.timing:
            _print_timing(fetch, response, began_at, names.done_at)
        if args.fail:
            response.raise_for_error()
        elif response.error is not None:
            raise response.error
        fetch.keep()
    return 0


class Fetch:
    """One request of the command line, and where its answer goes."""

    def __init__(
        self, base: EventBase, args: argparse.Namespace, stack: contextlib.ExitStack
    ) -> None:
        self._base = base
        self._args = args
        self._stack = stack
        self._response: ClientResponse | None = None
        self._failure: OSError | None = None  # of where the answer goes
        self._sink: BinaryIO | None = None
        self._bar: ProgressBar | None = None
        self._commit = contextlib.ExitStack()
        self.connect_times: ConnectTimes | None = None
        self.head_at = self.done_at = 0.0

    def start(self, client: HttpClient) -> None:
        """Send the request; the loop ends when all is done."""
        args = self._args
        fields: list[tuple[str, str]] = list(args.header)
        body = None if args.data is None else _body_of(args.data)
        if body is not None and not any(name.lower() == "content-type" for name, _ in fields):
            fields.append(("Content-Type", FORM))
        client.request(
            args.request or ("GET" if body is None else "POST"),
            args.url,
            self._on_done,
            headers=fields,
            body=body,
            headcb=self._on_head,
            datacb=self._on_data,
            progresscb=self._on_progress,
        )

    def take_response(self) -> ClientResponse:
        """Return what came of it.  Raises OSError when it could not be written."""
        if self._bar is not None:
            self._bar.finish()
        if self._failure is not None:
            raise self._failure
        assert self._response is not None
        return self._response

    def keep(self) -> None:
        """All has come: what is saved may stay."""
        if self._args.output is not None and self._sink is None:
            self._open()  # an answer without a body is an empty file
        self._commit.close()

    def _on_head(self, exchange: ClientExchange, response: ClientResponse, arg: object) -> None:
        self.head_at = self._base.gettime_monotonic()
        self.connect_times = exchange.connect_times
        if self._args.include and not self._is_failure(response):
            request = exchange.http_request
            minor = 1 if request is None else request.minor
            lines = [f"HTTP/1.{minor} {response.status} {response.reason}"]
            lines += [f"{name}: {value}" for name, value in response.headers]
            head = "".join(f"{line}\n" for line in lines) + "\n"
            self._write(exchange, sys.stdout.buffer, head.encode("utf-8", "surrogateescape"))

    def _on_data(self, exchange: ClientExchange, data: bytes, arg: object) -> None:
        response = exchange.response
        if response is None or self._is_failure(response):
            return
        if self._sink is None:
            try:
                self._open()
            except OSError as exc:
                self._give_up(exchange, exc)
                return
        assert self._sink is not None
        self._write(exchange, self._sink, data)

    def _on_progress(
        self, exchange: ClientExchange, received: int, total: int | None, arg: object
    ) -> None:
        if self._bar is not None:
            self._bar.show(received, total, self._base.gettime_monotonic())

    def _on_done(self, response: ClientResponse, arg: object) -> None:
        self.done_at = self._base.gettime_monotonic()
        self._response = response
        self._base.loopbreak()

    def _is_failure(self, response: ClientResponse) -> bool:
        return bool(self._args.fail) and response.status >= 400

    def _open(self) -> None:
        path = self._args.output
        if path is None:
            self._sink = sys.stdout.buffer
            return
        self._stack.enter_context(_ended_by_sigterm())
        saving = self._stack.enter_context(saved_as(path))
        self._sink = saving.file
        self._commit.callback(saving.keep)
        if sys.stderr.isatty():
            self._bar = ProgressBar(sys.stderr, os.path.basename(path))

    def _write(self, exchange: ClientExchange, sink: BinaryIO, data: bytes) -> None:
        try:
            sink.write(data)
            if sink is sys.stdout.buffer:
                sink.flush()
        except OSError as exc:
            if sink is sys.stdout.buffer:
                _let_go_of_output()
            self._give_up(exchange, exc)

    def _give_up(self, exchange: ClientExchange, failure: OSError) -> None:
        self._failure = failure
        exchange.cancel()
        self._base.loopbreak()


class TimedResolver:
    """A resolver that notes when the last look-up was done."""

    def __init__(self, base: EventBase, resolver: Resolver) -> None:
        self._base = base
        self._resolver = resolver
        self.done_at: float | None = None

    def getaddrinfo(
        self,
        host: str | None,
        port: int | str | None,
        hints: AddrInfoHints | None,
        cb: ResolveCallback,
        arg: object = None,
    ) -> Cancellable | None:
        """Look up as the resolver does."""
        return self._resolver.getaddrinfo(host, port, hints, self._noting(cb), arg)

    def getaddrinfo_late(
        self,
        host: str | None,
        port: int | str | None,
        hints: AddrInfoHints | None,
        cb: ResolveCallback,
        late: LateCallback,
        arg: object = None,
    ) -> Cancellable | None:
        """Look up as the resolver does."""
        return self._resolver.getaddrinfo_late(host, port, hints, self._noting(cb), late, arg)

    def _noting(self, cb: ResolveCallback) -> ResolveCallback:
        def note(result: int, addresses: list[AddrInfo], arg: object) -> None:
            self.done_at = self._base.gettime_monotonic()
            cb(result, addresses, arg)

        return note


def _body_of(text: str) -> EvBuffer:
    """Return what -d says: text, a file's bytes, or those of the input."""
    buffer = EvBuffer()
    if text == "@-":
        buffer.add(sys.stdin.buffer.read())
    elif text.startswith("@"):
        with open(text[1:], "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size:
                buffer.add_file(os.dup(file.fileno()), 0, size)
            else:
                buffer.add(file.read())  # such as a pipe
    else:
        buffer.add(text.encode("utf-8", "surrogateescape"))
    return buffer


def _print_timing(
    fetch: Fetch, response: ClientResponse, began_at: float, resolved_at: float | None
) -> None:
    times = fetch.connect_times
    steps: list[tuple[str, float | None]] = [("DNS", resolved_at)]
    if times is not None:
        steps.append(("connect", times.connected_at))
        steps.append(("TLS", times.ready_at if response.url.startswith("https:") else None))
    steps.append(("first byte", fetch.head_at or None))
    steps.append(("total", fetch.done_at))
    for name, moment in steps:
        shown = "-" if moment is None else f"{moment - began_at:.6f}"
        print(f"{name + ':':<12}{shown}", file=sys.stderr)


def _let_go_of_output() -> None:
    """Nobody reads the output any more: what is still buffered must not fail at the very end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Have SIGTERM unwind the program, as SIGINT does, so that half a file is removed."""

    def end(signum: int, frame: object) -> None:
        raise SystemExit(128 + signum)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
