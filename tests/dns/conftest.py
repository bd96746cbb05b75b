"""What the DNS tests share: a base whose time is fake, nameservers to script, and recorders."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    EVLOOP_NONBLOCK,
    Event,
    EventBase,
    FakeClock,
)
from evsvc.dns import DnsServer, Resolver, ResolverOptions

Script = Callable[[bytes], bytes | list[bytes] | None]


def reply_to(
    packet: bytes,
    *records: str,
    rcode: int = 0,
    authority: tuple[str, ...] = (),
    flags: int = 0,
) -> dns.message.Message:
    """Make a reply to a query packet; records are written as in a zone file."""
    query = dns.message.from_wire(packet)
    reply = dns.message.QueryMessage(id=query.id)
    reply.flags = dns.flags.Flag(dns.flags.QR | dns.flags.RD | dns.flags.RA | flags)
    reply.question = query.question
    reply.set_rcode(dns.rcode.Rcode(rcode))
    for section, lines in ((reply.answer, records), (reply.authority, authority)):
        for line in lines:
            owner, ttl, rdtype, data = line.split(None, 3)
            section.append(dns.rrset.from_text(owner, int(ttl), "IN", rdtype, data))
    return reply


class Nameserver:
    """A raw UDP nameserver on the base: `script(packet)` gives what to send back, or None."""

    def __init__(self, base: EventBase, script: Script, host: str) -> None:
        self.script = script
        self.packets: list[bytes] = []
        self.sources: list[tuple[str, int]] = []
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind((host, 0))
        self.event = Event(base, self.sock, EV_READ | EV_PERSIST, self._on_readable)
        self.event.add()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.sock.getsockname()
        return host, port

    @property
    def names(self) -> list[str]:
        """The names asked for, in lower case, without the last dot."""
        return [
            dns.message.from_wire(packet).question[0].name.to_text(True).lower()
            for packet in self.packets
        ]

    def _on_readable(self, fd: int, what: int, arg: object) -> None:
        while True:
            try:
                packet, source = self.sock.recvfrom(65535)
            except BlockingIOError:
                return
            self.packets.append(packet)
            self.sources.append(source)
            replies = self.script(packet)
            for reply in [replies] if isinstance(replies, bytes) else replies or []:
                self.sock.sendto(reply, source)

    def close(self) -> None:
        self.event.close()
        self.sock.close()


class Results(list[Any]):
    """Collects callbacks, without their last argument, and stops the loop at `expected`."""

    def __init__(self, base: EventBase) -> None:
        super().__init__()
        self.base = base
        self.expected = 1

    def __call__(self, *args: Any) -> None:
        self.append(args[:-1])
        if len(self) >= self.expected:
            self.base.loopbreak()

    def wait(self, expected: int = 1) -> None:
        """Run the loop until there are `expected` results, or a (fake) hour is over."""
        self.expected = expected
        with self.base.timer(lambda *args: self.base.loopbreak()) as patience:
            patience.add(3600)
            if len(self) < expected:
                self.base.dispatch()


class Client:
    """A client that waits for what it has sent for by turning the server's loop."""

    def __init__(self, base: EventBase, port: Any, kind: int) -> None:
        self.base = base
        self.sock = socket.socket(socket.AF_INET, kind)
        self.sock.connect((port.address, port.port))
        self.sock.setblocking(False)
        if kind == socket.SOCK_STREAM:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""

    def turn(self) -> None:
        for _ in range(4):
            self.base.loop(EVLOOP_NONBLOCK)

    def ask(self, packet: bytes) -> bytes | None:
        self.sock.send(packet)
        return self.receive()

    def receive(self) -> bytes | None:
        """Return a datagram, None when there is none."""
        self.turn()
        try:
            return self.sock.recv(65535)
        except BlockingIOError:
            return None

    def ask_all(self, *packets: bytes) -> None:
        self.sock.send(b"".join(struct.pack("!H", len(packet)) + packet for packet in packets))

    def frames(self) -> list[bytes]:
        """Return the whole messages that came over TCP; `closed` tells of the end."""
        self.closed = False
        while True:
            self.turn()
            try:
                data = self.sock.recv(65535)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            if not data:
                self.closed = True
                break
            self.received += data
        found = []
        while len(self.received) >= 2:
            length = struct.unpack_from("!H", self.received)[0]
            if len(self.received) < 2 + length:
                break
            found.append(self.received[2 : 2 + length])
            self.received = self.received[2 + length :]
        return found


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def base(clock: FakeClock) -> Iterator[EventBase]:
    with EventBase(clock=clock) as made:
        yield made


@pytest.fixture
def results(base: EventBase) -> Results:
    return Results(base)


@pytest.fixture
def make_results(base: EventBase) -> Callable[[], Results]:
    return lambda: Results(base)


@pytest.fixture
def make_reply() -> Callable[..., dns.message.Message]:
    return reply_to


@pytest.fixture
def answer_a() -> Callable[..., Script]:
    """Return `answer_a(address=..., ttl=...)`: a script that gives every name one address."""

    def make(address: str = "192.168.11.11", ttl: int = 12345) -> Script:
        def script(packet: bytes) -> bytes:
            name = dns.message.from_wire(packet).question[0].name.to_text()
            return reply_to(packet, f"{name} {ttl} A {address}").to_wire()

        return script

    return make


@pytest.fixture
def nameserver(base: EventBase) -> Iterator[Callable[[Script], Nameserver]]:
    """Return `nameserver(script, host="127.0.0.1")`, which starts a `Nameserver`."""
    made: list[Nameserver] = []

    def start(script: Script, host: str = "127.0.0.1") -> Nameserver:
        made.append(Nameserver(base, script, host))
        return made[-1]

    yield start
    for server in made:
        server.close()


@pytest.fixture
def make_resolver(base: EventBase) -> Iterator[Callable[..., Resolver]]:
    """Return `make_resolver(*servers, **options)`: a resolver that reads no files."""
    made: list[Resolver] = []

    def make(*servers: Any, flags: int = 0, **options: Any) -> Resolver:
        resolver = Resolver(base, flags, options=ResolverOptions(**options))
        for server in servers:
            resolver.nameserver_sockaddr_add(server.address)
        made.append(resolver)
        return resolver

    yield make
    for resolver in made:
        resolver.close(fail_requests=False)


@pytest.fixture
def make_server(base: EventBase) -> Iterator[Callable[..., DnsServer]]:
    """Return `make_server(cb, arg=None, *, options=None)`, closed at the end."""
    made: list[DnsServer] = []

    def make(*args: Any, **kwargs: Any) -> DnsServer:
        made.append(DnsServer(base, *args, **kwargs))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def connect(base: EventBase) -> Iterator[Callable[..., Client]]:
    """Return `connect(port, kind=SOCK_DGRAM)`: a client of a server's port."""
    made: list[Client] = []

    def make(port: Any, kind: int = socket.SOCK_DGRAM) -> Client:
        made.append(Client(base, port, kind))
        return made[-1]

    yield make
    for client in made:
        client.sock.close()
