"""`evsvc demo`: an HTTP server, a DNS server and an RPC service in one process, on one base.

The name `demo.evsvc.test` is answered by the demo's own DNS server with the address of its HTTP
server, so that the whole way can be tried: look up, connect, call.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from shlex import quote

from .core import EV_TIMEOUT, EventBase, SocketError
from .core.util import ip_version
from .dns import (
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    DNS_ERR_REFUSED,
    EVDNS_FLAGS_AA,
    EVDNS_TYPE_A,
    EVDNS_TYPE_AAAA,
    DnsServer,
    DnsServerRequest,
)
from .http import EVHTTP_URI_QUERY_NONCONFORMANT, HttpServer, ServerRequest
from .rpc import Rpc, RpcServer, ServerCall
from .stopping import StopSignals

logger = logging.getLogger("evsvc.demo")

ZONE = "evsvc.test"
HOST_NAME = f"demo.{ZONE}"
TTL_S = 60

COUNT_INTERVAL_S = 0.2
COUNT_TO = 5

FREE_PORT_TRIES = 8

# After a signal, how long requests in flight may take to finish.
GRACE_S = 10.0


@dataclass
class AddRequest:
    """Two numbers."""

    left: int
    right: int


@dataclass
class AddReply:
    """Their sum."""

    total: int


Add = Rpc("Add", AddRequest, AddReply)


def handle_add(call: ServerCall[AddRequest, AddReply], arg: object) -> None:
    """Answer the RPC."""
    call.done(AddReply(total=call.request.left + call.request.right))


def answer_any(request: ServerRequest, arg: object) -> None:
    """The general callback: say what was asked."""
    request.output_headers.add("Content-Type", "text/plain; charset=utf-8")
    text = f"You asked {request.host or 'nobody'} for {request.path} by {request.method}.\n"
    request.send_reply(200, None, text.encode())


def answer_hello(request: ServerRequest, arg: object) -> None:
    """Greet whoever the query names."""
    query = request.parse_query(EVHTTP_URI_QUERY_NONCONFORMANT)
    request.output_headers.add("Content-Type", "text/plain; charset=utf-8")
    request.send_reply(200, None, f"Hello, {query.find('name') or 'world'}!\n".encode())


def answer_echo(request: ServerRequest, arg: object) -> None:
    """Send the body back."""
    request.output_headers.add("Content-Type", "application/octet-stream")
    request.send_reply(200, None, request.input_buffer)


def answer_count(request: ServerRequest, base: EventBase) -> None:
    """Count slowly, one chunk at a time, while everything else goes on."""

    def send_next(fd: int, what: int, number: int) -> None:
        request.send_reply_chunk(f"{number}\n".encode())
        if number == COUNT_TO or request.connection is None:
            request.send_reply_end()
        else:
            base.once(-1, EV_TIMEOUT, send_next, number + 1, COUNT_INTERVAL_S)

    request.output_headers.add("Content-Type", "text/plain")
    request.send_reply_start(200)
    send_next(-1, EV_TIMEOUT, 1)


def answer_dns(request: DnsServerRequest, address: str) -> None:
    """Know one name, deny the rest of its zone, refuse everything else."""
    question = request.questions[0]
    name = question.name.lower().rstrip(".")
    if name != ZONE and not name.endswith(f".{ZONE}"):
        request.respond(DNS_ERR_REFUSED)
        return
    request.set_flags(EVDNS_FLAGS_AA)
    if name not in (ZONE, HOST_NAME):
        request.respond(DNS_ERR_NOTEXIST)
        return
    version = ip_version(address)
    if question.type == EVDNS_TYPE_A and version == 4:
        request.add_a_reply(question.name, [address], TTL_S)
    elif question.type == EVDNS_TYPE_AAAA:
        request.add_aaaa_reply(question.name, [address if version == 6 else "::1"], TTL_S)
    request.respond(DNS_ERR_NONE)


class Demo:
    """The services of the demonstration on one base.

    Raises SocketError for a busy port, with the option that names another one.
    """

    def __init__(self, base: EventBase, host: str, http_port: int, dns_port: int) -> None:
        self.base = base
        self.host = host
        self.http = HttpServer(base)
        self.dns = DnsServer(base, answer_dns, host)
        try:
            with _another_port_by("--http-port"):
                self.http_port = self.http.bind_socket(host, http_port).port
            with _another_port_by("--dns-port"):
                self.dns_port = self._bind_dns(dns_port)
        except BaseException:
            self.close()
            raise
        self.http.set_gencb(answer_any)
        self.http.set_cb("/hello", answer_hello, methods=("GET",))
        self.http.set_cb("/echo", answer_echo, methods=("POST", "PUT"))
        self.http.set_cb("/count", answer_count, base, methods=("GET",))
        self.rpc = RpcServer(self.http)
        self.rpc.register_rpc(Add, handle_add)
        self.signals = StopSignals(base, self.stop, self.cut)

    def _bind_dns(self, port: int) -> int:
        """Bind one port for UDP and TCP.  A free one is free for TCP first, and it may take a few
        tries until the same number is free for UDP, too."""
        tries = 1 if port else FREE_PORT_TRIES
        while True:
            tcp = self.dns.bind_tcp(self.host, port)
            try:
                return self.dns.bind_udp(self.host, tcp.port).port
            except SocketError:
                tcp.close()
                tries -= 1
                if not tries:
                    raise

    def commands(self) -> list[tuple[str, str]]:
        """What to try: a line that says what comes of it, and the command."""
        url = f"http://{_bracketed(self.host)}:{self.http_port}"
        looked_up = f"http://{HOST_NAME}:{self.http_port}"
        dig = f"dig @{self.host} -p {self.dns_port}"
        nameserver = f"{_bracketed(self.host)}:{self.dns_port}"
        sum_of_two = json.dumps({"left": 2, "right": 3})
        return [
            (
                "the general callback, for every path without its own",
                f"curl {quote(f'{url}/any/path')}",
            ),
            ("a path callback that reads the query", f"curl {quote(f'{url}/hello?name=you')}"),
            ("a request body, sent back", f"curl --data 'some text' {quote(f'{url}/echo')}"),
            ("a reply in pieces, from a timer", f"curl --no-buffer {quote(f'{url}/count')}"),
            ("an address from the DNS server", f"{dig} {HOST_NAME} A"),
            ("the same over TCP, for IPv6", f"{dig} +tcp {HOST_NAME} AAAA"),
            ("a name that does not exist: NXDOMAIN", f"{dig} nowhere.{ZONE} A"),
            (
                'a remote call: {"total": 5}',
                f"evsvc rpc call {quote(url)} evsvc.demo:Add {quote(sum_of_two)}",
            ),
            (
                "a page from a host that is looked up in the DNS server of the demo",
                f"evsvc fetch {looked_up}/hello --nameserver {quote(nameserver)}",
            ),
        ]

    def stop(self) -> None:
        """Listen no more, finish what is in flight, then let the loop end."""
        self.dns.close()
        self.http.shutdown(lambda server: self.signals.close(), deadline_s=GRACE_S)

    def cut(self) -> None:
        """Wait for nobody any more."""
        self.close()
        self.base.loopbreak()

    def close(self) -> None:
        """Stop everything at once."""
        self.dns.close()
        self.http.close()


@contextmanager
def _another_port_by(option: str) -> Iterator[None]:
    """Name the option in the error of a port that this process cannot have."""
    try:
        yield
    except SocketError as exc:
        if exc.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        text = f"{exc.strerror}; for another port: {option} PORT, 0 for any free one"
        raise SocketError(exc.errno, text) from exc


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evsvc demo`."""
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (%(default)s)")
    parser.add_argument(
        "--http-port", "--port", type=int, default=8080, metavar="PORT", help="(%(default)s)"
    )
    parser.add_argument(
        "--dns-port", type=int, default=8053, metavar="PORT", help="UDP and TCP (%(default)s)"
    )
    parser.add_argument("--quiet", action="store_true", help="log no requests")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demonstration until SIGINT or SIGTERM; 0, or 1 for a busy port or when it was told
    twice, and requests in flight were cut off."""
    level = logging.WARNING if args.quiet else logging.INFO
    logging.basicConfig(level=level, format="%(name)s: %(message)s", stream=sys.stderr)
    with EventBase() as base:
        base.exception_handler = _log_exception
        try:
            demo = Demo(base, args.host, args.http_port, args.dns_port)
        except SocketError as exc:
            print(f"evsvc: {exc}", file=sys.stderr)
            return 1
        print(_block(demo), end="", flush=True)  # at once, whole
        base.dispatch()
    return 1 if demo.signals.hurried else 0


def _block(demo: Demo) -> str:
    """Return what a shell takes as a whole: each line is a command or a comment.

    No quotation mark is in a comment, since zsh takes one for a command unless told otherwise.
    """
    lines = [
        f"# Serving HTTP and RPC on port {demo.http_port}, DNS on port {demo.dns_port}.",
        "# Paste these lines into another shell, one by one or all of them.",
        "# Ctrl-C here ends the demo.",
    ]
    if shutil.which("evsvc") is None:
        folder = quote(os.path.dirname(sys.executable))
        lines += ["", "# so that the shell finds evsvc", f'export PATH={folder}:"$PATH"']
    for says, command in demo.commands():
        program = command.split()[0]
        if program != "evsvc" and shutil.which(program) is None:
            command = f"# {program} is not installed: {command}"
        lines += ["", f"# {says}", command]
    return "\n".join(lines) + "\n\n"


def _log_exception(exc: Exception) -> None:
    logger.error("a callback failed", exc_info=exc)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
