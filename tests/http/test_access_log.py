"""The access log's lines: formats, what is muted, and that nobody writes lines of his own."""

from __future__ import annotations

import json
import logging
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.core import ArgumentError
from evsvc.http import AccessLogOptions, TrustedProxies
from evsvc.http.server.observing.access_log import escape
from tests.http.peers import request

# What Apache's common format is, for who reads it.
COMMON = re.compile(
    r"(\S+) - - \[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "
    r'"((?:[^"\\]|\\.)*)" (\d{3}) (\d+|-)'
)
COMBINED = re.compile(COMMON.pattern + r' "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"')


@pytest.fixture
def logged(serve, caplog, clock):
    """Return `logged(*requests, cb=None, **options)`: the lines that they leave."""

    def run(*requests, cb=None, **options):
        def answer(got, arg):
            clock.advance(0.25)
            got.send_reply(200, None, b"hello")

        with caplog.at_level(logging.INFO, logger="evsvc.http.access"):
            site = serve(cb or answer)
            site.server.set_access_log(AccessLogOptions(**options))
            for each in requests:
                site.connect().send(each)
        return [record.getMessage() for record in caplog.records if "access" in record.name]

    return run


def test_common(logged) -> None:
    (line,) = logged(request("/a?b=c"), format="common")
    found = COMMON.fullmatch(line)
    assert found
    assert (found[1], *found.groups()[2:]) == ("127.0.0.1", "GET /a?b=c HTTP/1.1", "200", "5")
    moment = time.mktime(time.strptime(found[2][:20], "%d/%b/%Y:%H:%M:%S"))
    assert abs(moment - time.time()) < 100


def test_combined(logged) -> None:
    (line,) = logged(
        request("/", "Referer: http://r/", "User-Agent: Probe/1 (it)"), format="combined"
    )
    found = COMBINED.fullmatch(line)
    assert found
    assert found.groups()[5:] == ("http://r/", "Probe/1 (it)")
    assert COMBINED.fullmatch(logged(request("/"), format="combined")[-1]).groups()[5:] == (
        "-",
        "-",
    )


@pytest.mark.parametrize("form", ["common", "combined"])
def test_the_duration_stands_behind(logged, form) -> None:
    (line,) = logged(request("/"), format=form, duration=True)
    assert line.endswith(" 0.250000")


def test_json(logged) -> None:
    (line,) = logged(
        request("/a", "Referer: r\xe9f", 'User-Agent: "x"', method="POST", body=b"123"),
        format="json",
    )
    found = json.loads(line)
    assert line.isascii()
    assert abs(found.pop("port") - 32768) < 32768
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", found.pop("time"))
    assert found == {
        "address": "127.0.0.1",
        "peer": "127.0.0.1",
        "method": "POST",
        "target": "/a",
        "version": "1.1",
        "host": "h",
        "referer": "r\xe9f",
        "user_agent": '"x"',
        "status": 200,
        "sent_bytes": 5,
        "received_bytes": 3,
        "duration_s": 0.25,
        "ending": "whole",
    }


def test_bytes_that_are_no_request(logged) -> None:
    assert logged(b"no request\r\n")[-1] == '127.0.0.1 "-" 400 93'
    assert COMMON.fullmatch(logged(b"no request\r\n", format="common")[-1])
    assert COMBINED.fullmatch(logged(b"no request\r\n", format="combined")[-1])
    found = json.loads(logged(b"no request\r\n", format="json")[-1])
    assert (found["ending"], found["status"]) == ("refused", 400)
    assert "target" not in found


def test_a_client_that_left_has_499(logged) -> None:
    def leave(got, arg):
        got.connection.close()

    assert logged(request("/"), cb=leave)[-1] == '127.0.0.1 "GET / HTTP/1.1" 499 0'
    assert COMMON.fullmatch(logged(request("/"), cb=leave, format="common")[-1])[5] == "-"
    assert json.loads(logged(request("/"), cb=leave, format="json")[-1])["status"] is None


def test_a_client_behind_a_trusted_proxy_has_its_own_address(serve, caplog) -> None:
    with caplog.at_level(logging.INFO, logger="evsvc.http.access"):
        site = serve(lambda got, arg: got.send_reply(204))
        site.server.set_trusted_proxies(TrustedProxies(["127.0.0.1"]))
        site.connect().send(request("/", "X-Forwarded-For: 192.0.2.7"))
        site.connect().send(b"no request\r\n")
    first, second = (record.getMessage() for record in caplog.records if record.name[-1] == "s")
    assert first.startswith('192.0.2.7 "GET')
    assert second.startswith('127.0.0.1 "-"')


def test_paths_are_muted(logged) -> None:
    paths = ("/health", "/health?full", "/healthy", "/static/a", "/static/", "/static", "/")
    lines = logged(*map(request, paths), muted=("/health", "/static/"))
    assert [line.split()[2] for line in lines] == ["/healthy", "/static", "/"]


def test_a_program_may_switch_it_off_and_on(serve, caplog) -> None:
    with caplog.at_level(logging.INFO, logger="evsvc.http.access"):
        site = serve(lambda got, arg: got.send_reply(204))
        peer = site.connect()
        site.server.set_access_log(None)
        peer.ask(request("/1"), has_body=False)
        site.server.set_access_log(AccessLogOptions())
        peer.ask(request("/2"), has_body=False)
    (record,) = caplog.records
    assert record.getMessage() == '127.0.0.1 "GET /2 HTTP/1.1" 204 0'
    assert record.exchange.status == 204


def test_a_logger_that_is_silent_later_gets_nothing(serve, caplog) -> None:
    with caplog.at_level(logging.INFO, logger="evsvc.http.access"):
        site = serve(lambda got, arg: got.send_reply(204))
        peer = site.connect()
    peer.ask(request("/"), has_body=False)
    assert caplog.records == []


class TestInjection:
    @pytest.mark.parametrize("form", ["plain", "common", "combined", "json"])
    def test_nothing_that_a_client_sends_ends_a_line_or_a_quote(self, logged, form) -> None:
        lines = logged(
            request('/"x\\', 'Referer: " 200 0 "\\', "User-Agent: a\tb\xff\xe9\x85\\"),
            format=form,
        )
        (line,) = lines
        assert line.isascii()
        assert line.isprintable()
        if form == "combined":
            found = COMBINED.fullmatch(line)
            assert found
            assert found[3] == r"GET /\"x\\ HTTP/1.1"
            assert found[6] == r"\" 200 0 \"\\"
            assert found[7] == r"a\x09b\xff\xe9\x85\\"

    @given(st.text(st.characters(max_codepoint=255)))
    def test_every_byte_is_escaped_and_stays_apart(self, text) -> None:
        done = escape(text)
        assert done.isascii()
        assert done == "" or done.isprintable()
        assert re.fullmatch(r'(?:[^"\\]|\\["\\]|\\x[0-9a-f]{2})*', done)
        plain = done.encode().decode("unicode_escape")
        assert plain == text


@pytest.mark.parametrize(
    ("options", "said"),
    [({"format": "nginx"}, "nginx"), ({"muted": ("a",)}, "'a'"), ({"muted": "/a"}, "'/a'")],
)
def test_bad_options_are_refused(options, said) -> None:
    with pytest.raises(ArgumentError, match=said):
        AccessLogOptions(**options)
