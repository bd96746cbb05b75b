"""libevent's interface language for messages: `load("weather.rpc")["Weather"]` is a dataclass."""

from .generator import make_classes, python_source
from .load import load, loads
from .model import Document, Entry, IdlError, Struct
from .parser import parse

__all__ = [
    "Document",
    "Entry",
    "IdlError",
    "Struct",
    "load",
    "loads",
    "make_classes",
    "parse",
    "python_source",
]
