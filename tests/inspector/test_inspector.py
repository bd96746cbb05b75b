"""The inspector: what it shows, to whom, and that it leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from evsvc import Rpc, RpcPool, RpcServer
from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    EVLOOP_ONCE,
    ArgumentError,
    Event,
    EventBase,
    StateError,
)
from evsvc.dns import Resolver
from evsvc.inspector import Inspector, InspectorOptions
from evsvc.inspector.meter import OTHER
from evsvc.rpc import websocket
from tests.inspector.conftest import Site


@pytest.fixture
def inspector(base: EventBase, site: Site) -> Iterator[Inspector]:
    with Inspector(base) as made:
        made.mount(site.server)
        yield made


def start(base: EventBase, site: Site, **options: Any) -> Inspector:
    made = Inspector(base, InspectorOptions(**options))
    made.mount(site.server)
    return made


class Viewer:
    """An open page: the pictures that it has been sent."""

    def __init__(self, site: Site, **options: Any) -> None:
        self.site = site
        self.pictures: list[dict[str, Any]] = []
        self.status = 0
        self.ended = False
        self._text = ""
        self.exchange = site.client.get(
            f"{site.url}/_evsvc/events", self._done, datacb=self._take, **options
        )

    def _take(self, exchange: object, data: bytes, arg: object) -> None:
        self._text += data.decode()
        *events, self._text = self._text.split("\n\n")
        lines = [line for event in events for line in event.splitlines()]
        self.pictures += [json.loads(each[6:]) for each in lines if each.startswith("data: ")]

    def _done(self, response: Any, arg: object) -> None:
        self.status = response.status
        self.ended = True

    def wait_for(self, count: int) -> None:
        while len(self.pictures) < count and not self.ended:
            self.site.base.loop(EVLOOP_ONCE)
        assert len(self.pictures) >= count


def test_the_page_and_its_parts_are_served(site: Site, inspector: Inspector) -> None:
    page = site.get("/_evsvc")  # a redirect, which is followed
    assert page.url == f"{site.url}/_evsvc/"
    assert page.headers.find("Content-Type") == "text/html; charset=utf-8"
    for name, kind in (("inspector.js", "text/javascript"), ("inspector.css", "text/css")):
        assert name in page.text()
        part = site.get(f"/_evsvc/{name}")
        assert part.status == 200
        assert part.headers.find("Content-Type") == f"{kind}; charset=utf-8"
        assert "default-src 'none'" in (part.headers.find("Content-Security-Policy") or "")


def test_the_page_wants_nothing_from_elsewhere(site: Site, inspector: Inspector) -> None:
    for name in ("", "inspector.js", "inspector.css"):
        text = site.get(f"/_evsvc/{name}").text().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in "".join(line.partition("// ")[0] for line in text.splitlines())


def test_events_are_counted_by_kind_and_priority(base: EventBase, site: Site) -> None:
    base.priority_init(3)
    with start(base, site) as inspector:
        before = inspector.state()["events"]
        timer = base.timer(lambda fd, what, arg: None)
        timer.priority = 2
        timer.add(100)
        reading = Event(base, site.bound.fd, EV_READ | EV_PERSIST, lambda fd, what, arg: None)
        reading.priority = 0
        reading.add(50)
        signal = base.signal(10, lambda fd, what, arg: None)
        signal.add()
        after = inspector.state()["events"]
        for event in (timer, reading, signal):
            event.close()
    differences = {name: after[name] - before[name] for name in ("read", "timer", "signal")}
    assert differences == {"read": 1, "timer": 2, "signal": 1}
    assert [a - b for a, b in zip(after["by_priority"], before["by_priority"], strict=True)] == [
        1,
        1,
        1,
    ]


def test_timers_are_told_in_the_order_of_their_time(base: EventBase, inspector: Inspector) -> None:
    def later(fd: int, what: int, arg: object) -> None: ...

    def sooner(fd: int, what: int, arg: object) -> None: ...

    with base.timer(later) as first, base.timer(sooner) as second:
        first.add(2000.0)
        second.add(1000.0)
        rows = inspector.state()["timers"]
    names = [each["name"].rpartition(".")[2] for each in rows]
    assert names.index("sooner") < names.index("later")
    assert 990 < rows[names.index("sooner")]["due_s"] <= 1000


def test_the_loop_and_its_slowest_callbacks_are_measured(
    base: EventBase, inspector: Inspector
) -> None:
    def work(fd: int, what: int, arg: object) -> None:
        sum(range(20_000))

    inspector.state()
    for _ in range(5):
        base.timer(work).active(0)
        base.loop(EVLOOP_ONCE)
    state = inspector.state()
    assert state["loop"]["callbacks_per_s"] > 0
    assert state["loop"]["passes_per_s"] > 0
    assert 0 < state["loop"]["load"] <= 1
    row = next(each for each in state["callbacks"] if each["name"].endswith("work"))
    assert row["calls"] == 5
    assert 0 < row["longest_s"] <= row["total_s"]
    assert state["loop"]["longest_s"] >= row["longest_s"]


def test_no_more_callbacks_are_told_apart_than_the_limit(base: EventBase, site: Site) -> None:
    def callback(number: int) -> Any:
        def each(fd: int, what: int, arg: object) -> None: ...

        each.__qualname__ = f"number{number}"
        return each

    with start(base, site, max_names=3) as inspector:
        inspector.state()
        for number in range(4):
            base.timer(callback(number)).active(0)
            base.loop(EVLOOP_ONCE)
            names = {row["name"].rpartition(".")[2] for row in inspector.state()["callbacks"]}
            assert (OTHER in names) == (number >= 3)
        assert len(names) == 4


def test_sockets_are_shown_with_their_bytes(site: Site, inspector: Inspector) -> None:
    site.server.set_gencb(lambda request, arg: request.send_reply(200, None, b"x" * 5000))
    site.get("/")
    inspector.state()
    site.get("/")
    rows = inspector.state()["sockets"]["rows"]
    (listening,) = [row for row in rows if row["kind"] == "listening"]
    assert listening["local"] == f"127.0.0.1:{site.bound.port}"
    (served,) = [row for row in rows if row["kind"] == "tcp" and row["local"] == listening["local"]]
    assert served["sent_bytes"] > 5000  # as far as it is acknowledged
    (client,) = [row for row in rows if row["kind"] == "tcp" and row["peer"] == served["local"]]
    assert client["received_bytes"] > 10_000
    assert client["received_per_s"] > 0


def test_tables_have_no_more_rows_than_the_limit(base: EventBase, site: Site) -> None:
    timers = [base.timer(lambda fd, what, arg: None) for _ in range(3)]
    for each in timers:
        each.add(1000)
    with start(base, site, max_rows=2) as inspector:
        assert len(inspector.state()["timers"]) == 2
    with start(base, site, max_rows=3) as inspector:
        assert len(inspector.state()["timers"]) == 3
    for each in timers:
        each.close()


def test_too_many_events_are_only_counted(base: EventBase, site: Site) -> None:
    timers = [base.timer(lambda fd, what, arg: None) for _ in range(3)]
    for each in timers:
        each.add(1000)
    with start(base, site) as inspector:
        count = inspector.state()["events"]["added"]
    for limit, is_looked_at in ((count, True), (count - 1, False)):
        with start(base, site, max_events=limit) as inspector:
            state = inspector.state()
        assert ("read" in state["events"]) == is_looked_at
        assert bool(state["sockets"]["rows"]) == is_looked_at
    for each in timers:
        each.close()


@dataclass
class Number:
    """A number."""

    value: int


Double = Rpc("Double", Number, Number)
MadeUp = Rpc("MadeUp", Number, Number)


def over_http(pool: RpcPool, site: Site) -> None:
    pool.add_endpoint("127.0.0.1", site.bound.port)


def over_websocket(pool: RpcPool, site: Site) -> None:
    websocket.add_endpoint(pool, f"ws://127.0.0.1:{site.bound.port}{websocket.WEBSOCKET_PATH}")


@pytest.mark.parametrize("reach", [over_http, over_websocket])
def test_rpc_methods_are_shown_with_their_latencies(
    base: EventBase, site: Site, inspector: Inspector, reach: Callable[[RpcPool, Site], None]
) -> None:
    def answer(call: Any, arg: object) -> None:
        if call.request.value < 0:
            call.fail("no such number")
        else:
            call.done(Number(2 * call.request.value))

    rpc_server = RpcServer(site.server)
    rpc_server.register_rpc(Double, answer)
    websocket.serve(rpc_server)
    done: list[Any] = []
    with RpcPool(base, timeout=10.0) as pool:
        reach(pool, site)
        for value in (1, 2, -1):
            pool.make_request(Double, Number(value), lambda *result: done.append(result))
        pool.make_request(MadeUp, Number(1), lambda *result: done.append(result))
        while len(done) < 4:
            base.loop(EVLOOP_ONCE)
        site.get("/.rpc.Made_up")
        (method,) = inspector.state()["rpc"]
    assert (method["name"], method["calls"], method["failed"]) == ("Double", 3, 1)
    assert sum(method["counts"]) == 3
    assert method["p50_s"] <= method["p99_s"]


def test_nameservers_and_the_cache_are_shown(base: EventBase, inspector: Inspector) -> None:
    with Resolver(base, 0) as resolver:
        resolver.nameserver_ip_add("127.0.0.1:9")
        inspector.watch_resolver(resolver, "ours")
        (dns,) = inspector.state()["dns"]
    assert dns["name"] == "ours"
    assert dns["nameservers"] == [
        {"name": "127.0.0.1:9", "address": ("127.0.0.1", 9), "up": True, "timeouts": 0}
    ]
    assert dns["answers"] == []


def test_an_open_page_gets_pictures_until_it_leaves(base: EventBase, site: Site) -> None:
    with start(base, site, interval_s=0.01) as inspector:
        viewer = Viewer(site)
        viewer.wait_for(3)
        assert viewer.pictures[1]["http"][0]["in_flight"] == 1
        assert viewer.pictures[2]["time"] > viewer.pictures[1]["time"]
        viewer.exchange.cancel()
        while inspector.is_measuring:
            base.loop(EVLOOP_ONCE)


def test_one_page_more_than_the_limit_is_told_to_come_later(base: EventBase, site: Site) -> None:
    with start(base, site, interval_s=0.01, max_viewers=2):
        first, second = Viewer(site), Viewer(site)
        first.wait_for(1)
        second.wait_for(1)
        third = Viewer(site)
        while not third.ended:
            base.loop(EVLOOP_ONCE)
        assert third.status == 503
        first.exchange.cancel()
        second.wait_for(len(second.pictures) + 1)
        fourth = Viewer(site)
        fourth.wait_for(1)


def test_closing_ends_pages_and_takes_the_paths_back(base: EventBase, site: Site) -> None:
    inspector = start(base, site)
    viewer = Viewer(site)
    viewer.wait_for(1)
    inspector.close()
    inspector.close()
    while not viewer.ended:
        base.loop(EVLOOP_ONCE)
    assert site.get("/_evsvc/").status == 404
    with pytest.raises(StateError):
        inspector.mount(site.server)
    with start(base, site):  # the place is free again
        assert site.get("/_evsvc/state").status == 200


def test_a_mount_on_a_path_that_is_taken_leaves_nothing(base: EventBase, site: Site) -> None:
    site.server.set_cb("/_evsvc/events", lambda request, arg: request.send_reply(200))
    with Inspector(base) as inspector, pytest.raises(ArgumentError):
        inspector.mount(site.server)
    assert site.get("/_evsvc/").status == 404
    assert site.get("/_evsvc/events").status == 200


@pytest.mark.parametrize("path", ["", "x", "/x/", "/"])
def test_a_path_that_is_none_is_refused(base: EventBase, site: Site, path: str) -> None:
    with Inspector(base) as inspector, pytest.raises(ArgumentError, match="path"):
        inspector.mount(site.server, path)


@pytest.mark.parametrize(
    "option", ["interval_s", "max_viewers", "max_rows", "max_names", "max_events"]
)
def test_a_number_that_is_not_positive_is_refused(option: str) -> None:
    with pytest.raises(ArgumentError, match=f"{option}.*0"):
        InspectorOptions(**{option: 0})


def test_another_method_is_refused(site: Site, inspector: Inspector) -> None:
    answers: list[Any] = []
    site.client.request(
        "POST", f"{site.url}/_evsvc/state", lambda got, arg: answers.append(got), body=b"x"
    )
    while not answers:
        site.base.loop(EVLOOP_ONCE)
    assert answers[0].status == 405


def test_a_token_is_taken_from_the_address_into_a_cookie(base: EventBase, site: Site) -> None:
    with start(base, site, token="s3cret & more"):
        assert site.get("/_evsvc/").status == 403
        assert site.get("/_evsvc/?token=wrong").status == 403
        let_in = site.get("/_evsvc/?token=s3cret%20%26%20more")
        assert let_in.history[0].status == 303
        assert let_in.url == f"{site.url}/_evsvc/"
        cookie = let_in.history[0].headers.find("Set-Cookie") or ""
        assert cookie.endswith("; Path=/_evsvc; HttpOnly; SameSite=Strict")
        named = {"Cookie": cookie.partition(";")[0]}
        assert site.get("/_evsvc/state", headers=named).status == 200


def test_a_token_may_be_a_bearer(base: EventBase, site: Site) -> None:
    with start(base, site, token="s3cret"):
        assert site.get("/_evsvc/state", headers={"Authorization": "Bearer s3cret"}).status == 200
        assert site.get("/_evsvc/state", headers={"Authorization": "Bearer s3cre"}).status == 403
        assert site.get("/_evsvc/state", headers={"Cookie": "evsvc_inspector=zz"}).status == 403
