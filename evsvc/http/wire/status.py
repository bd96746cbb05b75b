"""Status codes, reason phrases and request methods under libevent's names."""

from collections.abc import Collection, Mapping
from enum import IntFlag
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from ...core.errors import ArgumentError, ArgumentTypeError
from .grammar import is_token

HTTP_CONTINUE: Final = 100
HTTP_SWITCH_PROTOCOLS: Final = 101
HTTP_PROCESSING: Final = 102
HTTP_EARLYHINTS: Final = 103
HTTP_OK: Final = 200
HTTP_CREATED: Final = 201
HTTP_ACCEPTED: Final = 202
HTTP_NONAUTHORITATIVE: Final = 203
HTTP_NOCONTENT: Final = 204
HTTP_MOVEPERM: Final = 301
HTTP_MOVETEMP: Final = 302
HTTP_NOTMODIFIED: Final = 304
HTTP_BADREQUEST: Final = 400
HTTP_UNAUTHORIZED: Final = 401
HTTP_PAYMENTREQUIRED: Final = 402
HTTP_FORBIDDEN: Final = 403
HTTP_NOTFOUND: Final = 404
HTTP_BADMETHOD: Final = 405
HTTP_ENTITYTOOLARGE: Final = 413
HTTP_EXPECTATIONFAILED: Final = 417
HTTP_INTERNAL: Final = 500
HTTP_NOTIMPLEMENTED: Final = 501
HTTP_BADGATEWAY: Final = 502
HTTP_SERVUNAVAIL: Final = 503

_PHRASES: Final[Mapping[int, str]] = MappingProxyType(
    {status.value: status.phrase for status in HTTPStatus}
)
_CLASSES: Final = ("Informational", "Success", "Redirection", "Client Error", "Server Error")


def reason_phrase(code: int) -> str:
    """The standard phrase for a status code, or the name of its class when it has none.

    `Unknown Status Class` outside 100..599, as in libevent.
    """
    phrase = _PHRASES.get(code)
    if phrase is not None:
        return phrase
    return _CLASSES[code // 100 - 1] if 100 <= code <= 599 else "Unknown Status Class"


class Method(IntFlag):
    """libevent's `enum evhttp_cmd_type`: one bit for each method, so that sets are masks."""

    EVHTTP_REQ_GET = 1 << 0
    EVHTTP_REQ_POST = 1 << 1
    EVHTTP_REQ_HEAD = 1 << 2
    EVHTTP_REQ_PUT = 1 << 3
    EVHTTP_REQ_DELETE = 1 << 4
    EVHTTP_REQ_OPTIONS = 1 << 5
    EVHTTP_REQ_TRACE = 1 << 6
    EVHTTP_REQ_CONNECT = 1 << 7
    EVHTTP_REQ_PATCH = 1 << 8
    EVHTTP_REQ_PROPFIND = 1 << 9
    EVHTTP_REQ_PROPPATCH = 1 << 10
    EVHTTP_REQ_MKCOL = 1 << 11
    EVHTTP_REQ_LOCK = 1 << 12
    EVHTTP_REQ_UNLOCK = 1 << 13
    EVHTTP_REQ_COPY = 1 << 14
    EVHTTP_REQ_MOVE = 1 << 15


EVHTTP_REQ_GET = Method.EVHTTP_REQ_GET
EVHTTP_REQ_POST = Method.EVHTTP_REQ_POST
EVHTTP_REQ_HEAD = Method.EVHTTP_REQ_HEAD
EVHTTP_REQ_PUT = Method.EVHTTP_REQ_PUT
EVHTTP_REQ_DELETE = Method.EVHTTP_REQ_DELETE
EVHTTP_REQ_OPTIONS = Method.EVHTTP_REQ_OPTIONS
EVHTTP_REQ_TRACE = Method.EVHTTP_REQ_TRACE
EVHTTP_REQ_CONNECT = Method.EVHTTP_REQ_CONNECT
EVHTTP_REQ_PATCH = Method.EVHTTP_REQ_PATCH
EVHTTP_REQ_PROPFIND = Method.EVHTTP_REQ_PROPFIND
EVHTTP_REQ_PROPPATCH = Method.EVHTTP_REQ_PROPPATCH
EVHTTP_REQ_MKCOL = Method.EVHTTP_REQ_MKCOL
EVHTTP_REQ_LOCK = Method.EVHTTP_REQ_LOCK
EVHTTP_REQ_UNLOCK = Method.EVHTTP_REQ_UNLOCK
EVHTTP_REQ_COPY = Method.EVHTTP_REQ_COPY
EVHTTP_REQ_MOVE = Method.EVHTTP_REQ_MOVE
EVHTTP_REQ_MAX = EVHTTP_REQ_MOVE

EVHTTP_METHOD_HAS_BODY: Final = 1

_PREFIX: Final = "EVHTTP_REQ_"
_BY_NAME: Final[Mapping[str, Method]] = MappingProxyType(
    {name.removeprefix(_PREFIX): bit for name, bit in Method.__members__.items()}
)
_BY_BIT: Final[Mapping[int, str]] = MappingProxyType({bit: name for name, bit in _BY_NAME.items()})


def method_bit(name: str) -> Method | None:
    """The bit of a method name (case-sensitive, RFC 9110 9.1), or None for an unknown one."""
    return _BY_NAME.get(name)


def method_names(methods: int | Collection[str]) -> frozenset[str]:
    """The names of methods that are given as bits, or by any names of the program's own.

    Raises ArgumentError for none, or what is no method name (RFC 9110 9.1), ArgumentTypeError for
    one text instead of several.
    """
    if isinstance(methods, int):
        names = frozenset(name for bit, name in _BY_BIT.items() if bit & methods)
    elif isinstance(methods, str) or not isinstance(methods, Collection):
        raise ArgumentTypeError(f"methods are bits or several names, not {methods!r}")
    else:
        names = frozenset(methods)
    for name in names:
        if not isinstance(name, str) or not is_token(name):
            raise ArgumentError(f"not the name of a method: {name!r}")
    if not names:
        shown = f"{methods:#x}" if isinstance(methods, int) else repr(methods)
        raise ArgumentError(f"no method is allowed: {shown}")
    return names


def method_name(bit: int) -> str | None:
    """The name of a single method bit, or None when it is no method or several."""
    return _BY_BIT.get(bit)
