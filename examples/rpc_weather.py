"""A weather service: typed messages, an error with a code, and a description for who calls by hand.

Usage: rpc_weather.py [port]

`evsvc rpc describe http://127.0.0.1:PORT` prints what it offers, and
`evsvc rpc call http://127.0.0.1:PORT Weather.Now '{"city": "Oslo"}'` calls it, as curl can.
"""

import argparse
import sys
from dataclasses import dataclass, field
from enum import StrEnum

from evsvc import EventBase, HttpServer, Rpc, RpcServer
from evsvc.rpc import CallFailed, RpcErrorCode, Service


class Sky(StrEnum):
    """What is above."""

    CLEAR = "clear"
    CLOUDS = "clouds"
    RAIN = "rain"


@dataclass
class Place:
    """Where."""

    city: str


@dataclass
class Report:
    """How it is there; a field that is added later has a default, so that old callers go on."""

    city: str
    celsius: float
    sky: Sky = Sky.CLEAR
    warnings: list[str] = field(default_factory=list)


class Weather(Service):
    """Asking twice is as asking once, so a pool may repeat a call."""

    now = Rpc("Weather.Now", Place, Report, idempotent=True)


REPORTS = {
    "Oslo": Report("Oslo", -3.5, Sky.CLOUDS, ["ice on the roads"]),
    "Rome": Report("Rome", 21.0),
}


class Station:
    """Serves the weather of two cities."""

    def now(self, call, arg):
        """Answer, or tell that there is no such place."""
        report = REPORTS.get(call.request.city)
        if report is None:
            known = sorted(REPORTS)
            raise CallFailed("no station there", RpcErrorCode.NOT_FOUND, {"known": known})
        call.done(report)


parser = argparse.ArgumentParser()
parser.add_argument("port", type=int, nargs="?", default=8080)
port = parser.parse_args().port

with EventBase() as base, HttpServer(base) as http_server:
    server = RpcServer(http_server)
    server.register_service(Weather, Station())
    server.serve_description()
    try:
        bound = http_server.bind_socket("127.0.0.1", port)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        sys.exit(f"rpc_weather.py: {error}")
    print(f"http://127.0.0.1:{bound.port}/", flush=True)
    base.dispatch()
