"""Reason phrases, and method names against libevent's bits."""

from http import HTTPStatus

import pytest

from evsvc.http.wire import status

METHODS = (
    "GET",
    "POST",
    "HEAD",
    "PUT",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PATCH",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "LOCK",
    "UNLOCK",
    "COPY",
    "MOVE",
)


@pytest.mark.parametrize("known", HTTPStatus)
def test_a_known_code_has_its_standard_phrase(known: HTTPStatus) -> None:
    assert status.reason_phrase(known.value) == known.phrase


@pytest.mark.parametrize(
    ("code", "phrase"),
    [
        (199, "Informational"),
        (299, "Success"),
        (399, "Redirection"),
        (499, "Client Error"),
        (599, "Server Error"),
        (99, "Unknown Status Class"),
        (600, "Unknown Status Class"),
        (0, "Unknown Status Class"),
        (-1, "Unknown Status Class"),
    ],
)
def test_an_unknown_code_has_the_name_of_its_class(code: int, phrase: str) -> None:
    assert status.reason_phrase(code) == phrase


def test_the_constants_have_the_values_of_libevent() -> None:
    assert (status.HTTP_OK, status.HTTP_ENTITYTOOLARGE, status.HTTP_SERVUNAVAIL) == (200, 413, 503)
    assert status.HTTP_SWITCH_PROTOCOLS == 101
    assert status.EVHTTP_METHOD_HAS_BODY == 1
    assert status.EVHTTP_REQ_MAX is status.EVHTTP_REQ_MOVE


@pytest.mark.parametrize(
    ("position", "name"),
    list(enumerate(METHODS)),
)
def test_names_and_bits_convert_both_ways(position: int, name: str) -> None:
    bit = status.method_bit(name)
    assert bit == 1 << position
    assert bit is getattr(status, f"EVHTTP_REQ_{name}")
    assert status.method_name(1 << position) == name


def test_what_is_no_single_method_converts_to_none() -> None:
    assert status.method_bit("get") is None
    assert status.method_bit("FLOOP") is None
    assert status.method_name(1 << 16) is None
    assert status.method_name(status.EVHTTP_REQ_GET | status.EVHTTP_REQ_PUT) is None
