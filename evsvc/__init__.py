"""evsvc: libevent's system for Python, on one event base."""

from .core import EventBase
from .http import HttpServer
