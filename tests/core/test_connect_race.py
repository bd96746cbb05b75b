"""Racing the addresses of a host (RFC 8305): order, stagger, winners and losers, time-outs."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    AddrInfo,
    ArgumentError,
    ArgumentTypeError,
    BevEvent,
    BufferEvent,
    ConnectOptions,
    ConnListener,
    Event,
    EventBase,
    FakeClock,
)
from evsvc.core.bufferevent.connect import (
    ATTEMPT_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    CONNECTION_ATTEMPT_DELAY_S,
    MAX_ADDRESSES,
    Race,
    all_failed,
    interleaved,
)
from tests.core.bevs import (
    LOOPBACK,
    Address,
    DictResolver,
    SlowPosts,
    never,
)
from tests.ports import held_port

INET, INET6 = socket.AF_INET, socket.AF_INET6


@pytest.fixture
def silence() -> Iterator[Address]:
    """Return an address that answers nothing: its listener's queue is full."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        held = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            held.append(sock)
        yield listener.getsockname()
        for sock in held:
            sock.close()


def let_in(lev: ConnListener, sock: socket.socket, address: object, arg: object) -> None:
    sock.close()


@pytest.fixture
def door(fake_base: EventBase) -> Iterator[Address]:
    """Return the address of a server that accepts, and closes."""
    with ConnListener.new_bind(fake_base, let_in, None, 0, -1, (LOOPBACK, 0)) as listener:
        yield listener.address


class Racer:
    """A bufferevent on its way to a host with these addresses, and what it is told when."""

    def __init__(
        self,
        base: EventBase,
        clock: FakeClock,
        addresses: list[Address],
        options: ConnectOptions | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        self.base = base
        self.clock = clock
        self.start = clock.monotonic()
        self.told: list[tuple[float, BevEvent]] = []
        self.resolver = DictResolver(base, {"host": [(INET, address) for address in addresses]})
        self.bev = BufferEvent(base, sock)
        self.bev.setcb(None, None, self.on_event)
        self.bev.connect_hostname(self.resolver, socket.AF_UNSPEC, "host", 80, options)

    def on_event(self, bev: BufferEvent, what: BevEvent, ctx: object) -> None:
        self.told.append((self.clock.monotonic() - self.start, what))
        self.base.loopbreak()

    def run(self) -> BufferEvent:
        self.base.loopexit(1000)
        self.base.dispatch()
        return self.bev


def address_of(family: int, name: str) -> AddrInfo:
    return AddrInfo(family, socket.SOCK_STREAM, 0, "", (name, 1))


@pytest.mark.parametrize(
    ("families", "order"),
    [
        ("", ""),
        ("4", "a"),
        ("444", "abc"),
        ("6644", "acbd"),
        ("4466", "acbd"),
        ("66664", "aebcd"),
        ("46666", "abcde"),
        ("4x6", "abc"),
    ],
)
def test_families_take_turns_beginning_with_the_first(families: str, order: str) -> None:
    """Within a family, the order is the resolver's (RFC 8305 section 4)."""
    numbers = {"4": INET, "6": INET6, "x": 99}
    addresses = [
        address_of(numbers[family], name) for family, name in zip(families, "abcdef", strict=False)
    ]
    assert "".join(address.sockaddr[0] for address in interleaved(addresses)) == order


def test_the_next_address_joins_after_the_delay(
    fake_base: EventBase, clock: FakeClock, silence: Address, door: Address
) -> None:
    """One that does not answer holds the others up by 250 ms, not until it has failed."""
    racer = Racer(fake_base, clock, [silence, door])
    bev = racer.run()
    assert racer.told == [(pytest.approx(CONNECTION_ATTEMPT_DELAY_S), BEV_EVENT_CONNECTED)]
    assert bev.socket is not None
    assert bev.socket.getpeername() == door
    bev.close()


@pytest.mark.parametrize("delay_s", [0.01, 0.1, 2.0])
@pytest.mark.parametrize("silent", [1, 3])
def test_each_further_address_waits_for_the_delay_that_is_set(
    fake_base: EventBase,
    clock: FakeClock,
    silence: Address,
    door: Address,
    delay_s: float,
    silent: int,
) -> None:
    options = ConnectOptions(attempt_delay_s=delay_s)
    racer = Racer(fake_base, clock, [silence] * silent + [door], options)
    racer.run().close()
    assert racer.told == [(pytest.approx(silent * delay_s), BEV_EVENT_CONNECTED)]


def test_after_a_refusal_the_next_is_tried_at_once(
    fake_base: EventBase, clock: FakeClock, closed_address: Address, door: Address
) -> None:
    racer = Racer(fake_base, clock, [closed_address, closed_address, door])
    racer.run().close()
    assert racer.told == [(0, BEV_EVENT_CONNECTED)]


def test_an_address_that_answers_in_time_is_alone(
    fake_base: EventBase, clock: FakeClock, door: Address
) -> None:
    """The next ones are not even tried."""
    with ConnListener.new_bind(fake_base, never, None, 0, -1, (LOOPBACK, 0)) as unused:
        racer = Racer(fake_base, clock, [door, unused.address])
        bev = racer.run()
        fake_base.loopexit(10)
        fake_base.dispatch()
        assert racer.told == [(0, BEV_EVENT_CONNECTED)]
        bev.close()


class Entry:
    """A race of its own, without a bufferevent."""

    def __init__(self, base: EventBase, addresses: list[Address]) -> None:
        self.outcomes: list[tuple[socket.socket | None, OSError | None]] = []
        self.race = Race(
            lambda fd, events, callback: Event(base, fd, events, callback),
            [AddrInfo(INET, socket.SOCK_STREAM, 0, "", address) for address in addresses],
            ConnectOptions(),
            lambda sock, error: self.outcomes.append((sock, error)),
        )
        self.race.start()

    @property
    def sockets(self) -> list[socket.socket]:
        return [attempt.sock for attempt in self.race._attempts]


def test_the_first_to_connect_wins_and_the_losers_are_closed(
    fake_base: EventBase, silence: Address
) -> None:
    with ConnListener.new_bind(fake_base, let_in, None, 0, -1, (LOOPBACK, 0)) as listener:
        entry = Entry(fake_base, [silence, silence, listener.address])
        fake_base.loopexit(CONNECTION_ATTEMPT_DELAY_S * 1.5)
        fake_base.dispatch()
        losers = entry.sockets
        assert len(losers) == 2
        fake_base.loopexit(CONNECTION_ATTEMPT_DELAY_S)
        fake_base.dispatch()
        assert [sock.fileno() for sock in losers] == [-1, -1]
        ((winner, error),) = entry.outcomes
        assert winner is not None
        assert winner.getpeername() == listener.address
        assert error is None
        winner.close()


def test_cancelling_closes_all_that_are_under_way(fake_base: EventBase, silence: Address) -> None:
    entry = Entry(fake_base, [silence] * 3)
    fake_base.loopexit(CONNECTION_ATTEMPT_DELAY_S * 2.5)
    fake_base.dispatch()
    sockets = entry.sockets
    assert len(sockets) == 3
    entry.race.cancel()
    assert [sock.fileno() for sock in sockets] == [-1] * 3
    assert fake_base.dispatch() == 1
    assert entry.outcomes == []


def test_closing_the_bufferevent_ends_the_race(
    fake_base: EventBase, clock: FakeClock, silence: Address
) -> None:
    racer = Racer(fake_base, clock, [silence] * 3)
    racer.bev.setcb(never, never, never)
    fake_base.loopexit(1)
    fake_base.dispatch()
    racer.bev.close()
    assert fake_base.dispatch() == 1


@pytest.mark.parametrize(("silent", "ends"), [(1, 2), (2, 2.25)])
def test_an_address_has_so_long_to_answer(
    fake_base: EventBase, clock: FakeClock, silence: Address, silent: int, ends: float
) -> None:
    """Each counts from its own start; with the last the connect has failed."""
    racer = Racer(fake_base, clock, [silence] * silent, ConnectOptions(attempt_s=2))
    bev = racer.run()
    assert racer.told == [(pytest.approx(ends), BEV_EVENT_ERROR)]
    assert isinstance(bev.error, TimeoutError)
    assert bev.error.errno == errno.ETIMEDOUT
    assert bev.dns_error == 0
    bev.close()


def test_the_whole_has_so_long(fake_base: EventBase, clock: FakeClock, silence: Address) -> None:
    racer = Racer(fake_base, clock, [silence] * 9, ConnectOptions(attempt_s=None, total_s=5))
    bev = racer.run()
    assert racer.told == [(pytest.approx(5), BEV_EVENT_ERROR)]
    assert isinstance(bev.error, TimeoutError)
    assert "host" in str(bev.error)
    bev.close()


def test_the_look_up_counts_for_the_whole(fake_base: EventBase, clock: FakeClock) -> None:
    """It is cancelled, and what it finds later is not connected to."""
    resolver = DictResolver(fake_base, {"slow": [(INET, (LOOPBACK, 1))]}, at_once=False)
    resolver.base = SlowPosts(fake_base)  # type: ignore[assignment]
    start = clock.monotonic()
    told: list[tuple[float, BevEvent]] = []
    with BufferEvent(fake_base) as bev:
        bev.setcb(None, None, lambda bev, what, ctx: told.append((clock.monotonic() - start, what)))
        bev.connect_hostname(resolver, socket.AF_UNSPEC, "slow", 80, ConnectOptions(total_s=5))
        assert fake_base.dispatch() == 1
        assert told == [(pytest.approx(5), BEV_EVENT_ERROR)]
        assert resolver.cancelled == 1
        assert isinstance(bev.error, TimeoutError)


def test_without_limits_it_goes_on_for_as_long_as_the_kernel_tries(
    fake_base: EventBase, clock: FakeClock, silence: Address
) -> None:
    racer = Racer(fake_base, clock, [silence], ConnectOptions(attempt_s=None, total_s=None))
    bev = racer.run()
    assert racer.told == []
    bev.close()


@pytest.mark.parametrize(("most", "told"), [(3, BEV_EVENT_CONNECTED), (2, BEV_EVENT_ERROR)])
def test_so_many_addresses_are_tried_and_no_more(
    fake_base: EventBase,
    clock: FakeClock,
    closed_address: Address,
    door: Address,
    most: int,
    told: BevEvent,
) -> None:
    options = ConnectOptions(max_addresses=most)
    racer = Racer(fake_base, clock, [closed_address, closed_address, door], options)
    racer.run().close()
    assert racer.told == [(0, told)]


def attempts_of(error: OSError | None) -> list[OSError]:
    """Return the errors of all attempts, each with an errno of its own."""
    assert error is not None
    assert error.errno
    group = error.__cause__
    assert isinstance(group, ExceptionGroup)
    errors = list(group.exceptions)
    assert all(isinstance(each, OSError) and each.errno for each in errors)
    return errors  # type: ignore[return-value]


def test_the_error_has_all_attempts_with_their_addresses(
    fake_base: EventBase, clock: FakeClock, closed_address: Address, silence: Address
) -> None:
    """In the order of their failing; the errno is the most telling one, wherever it came."""
    options = ConnectOptions(attempt_s=2)
    racer = Racer(fake_base, clock, [(LOOPBACK, "x"), silence, closed_address, (1, 2)], options)  # type: ignore[list-item]
    bev = racer.run()
    assert isinstance(bev.error, ConnectionRefusedError)
    errors = attempts_of(bev.error)
    codes = [errno.EINVAL, errno.ECONNREFUSED, errno.EINVAL, errno.ETIMEDOUT]
    assert [error.errno for error in errors] == codes
    for error, address in zip(
        errors, [(LOOPBACK, "x"), closed_address, (1, 2), silence], strict=True
    ):
        assert str(address[1]) in str(error)
        assert str(error.strerror) in str(bev.error)
    bev.close()


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        ([errno.ECONNREFUSED, errno.ENETUNREACH], errno.ECONNREFUSED),
        ([errno.ENETUNREACH, errno.ECONNREFUSED], errno.ECONNREFUSED),
        ([errno.ETIMEDOUT, errno.ENETUNREACH, errno.EAFNOSUPPORT], errno.ETIMEDOUT),
        ([errno.ETIMEDOUT, errno.ECONNREFUSED], errno.ECONNREFUSED),
        ([errno.EINVAL, errno.EHOSTUNREACH], errno.EHOSTUNREACH),
        ([errno.ENETUNREACH], errno.ENETUNREACH),
    ],
)
def test_an_answer_tells_more_than_silence_and_that_more_than_a_refusal_here(
    codes: list[int], told: int
) -> None:
    errors = [OSError(code, f"{at}") for at, code in enumerate(codes)]
    error = all_failed(errors)
    assert error.errno == told
    assert attempts_of(error) == errors
    assert error.strerror == "; ".join(str(at) for at in range(len(codes)))


def test_one_address_has_its_error_as_well(
    fake_base: EventBase, clock: FakeClock, closed_address: Address
) -> None:
    bev = Racer(fake_base, clock, [closed_address]).run()
    assert [error.errno for error in attempts_of(bev.error)] == [errno.ECONNREFUSED]
    bev.close()


def test_when_time_is_up_those_under_way_are_among_the_attempts(
    fake_base: EventBase, clock: FakeClock, silence: Address, closed_address: Address
) -> None:
    """Those that were never tried are not."""
    options = ConnectOptions(total_s=0.3)
    addresses = [closed_address, silence, silence, silence, silence]
    bev = Racer(fake_base, clock, addresses, options).run()
    assert isinstance(bev.error, TimeoutError)
    codes = [errno.ECONNREFUSED, errno.ETIMEDOUT, errno.ETIMEDOUT]
    assert [error.errno for error in attempts_of(bev.error)] == codes
    assert str(silence[1]) in str(bev.error)
    bev.close()


def test_a_race_may_be_among_unix_paths(
    fake_base: EventBase, clock: FakeClock, tmp_path: Path
) -> None:
    """A full queue is tried again, while the next address joins."""
    path = str(tmp_path / "full")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        code = 0
        while not code:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.setblocking(False)
            code = sock.connect_ex(path)
        door = stack.enter_context(
            ConnListener.new_bind(fake_base, let_in, address=tmp_path / "door")
        )
        racer = Racer(fake_base, clock, [])
        fake_base.dispatch()
        racer.told.clear()
        racer.start = clock.monotonic()
        unix = int(socket.AF_UNIX)
        racer.resolver.table["host"] = [(unix, path), (unix, door.address)]
        racer.bev.connect_hostname(racer.resolver, socket.AF_UNSPEC, "host", 80)
        bev = racer.run()
        assert racer.told == [(pytest.approx(CONNECTION_ATTEMPT_DELAY_S), BEV_EVENT_CONNECTED)]
        bev.close()
        racer.told.clear()
        racer.start = clock.monotonic()
        racer.resolver.table["host"] = [(unix, path)]
        with BufferEvent(fake_base) as other:
            other.setcb(None, None, racer.on_event)
            options = ConnectOptions(attempt_s=2)
            other.connect_hostname(racer.resolver, socket.AF_UNSPEC, "host", 80, options)
            fake_base.dispatch()
            assert racer.told == [(pytest.approx(2), BEV_EVENT_ERROR)]
            assert [error.errno for error in attempts_of(other.error)] == [errno.EAGAIN]


@pytest.mark.parametrize("own", [True, False])
def test_the_programs_own_socket_tries_them_one_after_the_other(
    fake_base: EventBase, clock: FakeClock, silence: Address, door: Address, own: bool
) -> None:
    """There is but one; where it is not answered the kernel goes on, and that was that."""
    with socket.socket() as sock:
        options = ConnectOptions(attempt_s=3)
        racer = Racer(fake_base, clock, [silence, silence], options, sock if own else None)
        bev = racer.run()
        assert racer.told == [(pytest.approx(3 if own else 3.25), BEV_EVENT_ERROR)]
        assert isinstance(bev.error, TimeoutError)
        assert (bev.socket is sock) == own
        bev.close()
        assert sock.fileno() != -1


def test_the_programs_own_socket_tries_the_addresses_of_its_family(
    fake_base: EventBase, clock: FakeClock, door: Address
) -> None:
    with socket.socket() as sock, BufferEvent(fake_base, sock) as bev:
        told: list[BevEvent] = []
        bev.setcb(None, None, lambda bev, what, ctx: told.append(what))
        six = (INET6, ("::1", 1, 0, 0))
        resolver = DictResolver(fake_base, {"six": [six], "both": [six, (INET, door)]})
        bev.connect_hostname(resolver, socket.AF_UNSPEC, "six", 80)
        fake_base.loopexit(1)
        fake_base.dispatch()
        assert told == [BEV_EVENT_ERROR]
        assert bev.error is not None
        assert bev.error.errno == errno.EAFNOSUPPORT
        bev.connect_hostname(resolver, socket.AF_UNSPEC, "both", 80)
        bev.enable(BEV_EVENT_READING << 1)
        fake_base.loopexit(1)
        fake_base.dispatch()
        assert told[1:] == [BEV_EVENT_CONNECTED, BEV_EVENT_READING | BEV_EVENT_EOF]


@pytest.fixture
def closed_six() -> Iterator[tuple[Any, ...]]:
    """Return an IPv6 address that nobody listens on; a host without IPv6 has no other."""
    with contextlib.ExitStack() as stack:
        port = 9
        with contextlib.suppress(OSError):
            port = stack.enter_context(held_port("::1"))
        yield "::1", port, 0, 0


@pytest.mark.parametrize("first", [INET, INET6])
def test_the_other_family_is_next(
    fake_base: EventBase,
    clock: FakeClock,
    closed_address: Address,
    closed_six: tuple[Any, ...],
    door: Address,
    first: int,
) -> None:
    """A host that has both is reached over the one that works."""
    six = (INET6, closed_six)
    four = (INET, door)
    addresses = [six, six, four] if first == INET6 else [(INET, closed_address), six, four]
    racer = Racer(fake_base, clock, [])
    fake_base.dispatch()
    racer.told.clear()
    racer.resolver.table["host"] = addresses
    racer.bev.connect_hostname(racer.resolver, socket.AF_UNSPEC, "host", 80)
    racer.run().close()
    assert [what for _, what in racer.told] == [BEV_EVENT_CONNECTED]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempt_delay_s", 0.009),
        ("attempt_delay_s", float("nan")),
        ("attempt_s", 0),
        ("attempt_s", -1.0),
        ("total_s", 0),
        ("total_s", float("nan")),
        ("max_addresses", 0),
        ("max_addresses", -1),
    ],
)
def test_options_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ArgumentError, match=name):
        ConnectOptions(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempt_delay_s", "1"),
        ("attempt_delay_s", None),
        ("attempt_s", "1"),
        ("total_s", b"1"),
        ("max_addresses", 1.5),
        ("max_addresses", None),
    ],
)
def test_options_of_a_wrong_type_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=name):
        ConnectOptions(**{name: value})


def test_the_options_have_defaults() -> None:
    """The delay is the one that RFC 8305 section 8 recommends."""
    options = ConnectOptions()
    assert options.attempt_delay_s == CONNECTION_ATTEMPT_DELAY_S == 0.25
    assert options.attempt_s == ATTEMPT_TIMEOUT_S
    assert options.total_s == CONNECT_TIMEOUT_S
    assert options.max_addresses == MAX_ADDRESSES
    assert options.nodelay
