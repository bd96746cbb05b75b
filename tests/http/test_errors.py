"""The HTTP error family: built-in parents, libevent's codes, and the status to answer."""

import pytest

from evsvc.core.errors import Error
from evsvc.http import errors


def test_the_codes_are_in_the_order_of_libevent() -> None:
    assert [code.name for code in errors.RequestError] == [
        "EVREQ_HTTP_TIMEOUT",
        "EVREQ_HTTP_EOF",
        "EVREQ_HTTP_INVALID_HEADER",
        "EVREQ_HTTP_BUFFER_ERROR",
        "EVREQ_HTTP_REQUEST_CANCEL",
        "EVREQ_HTTP_DATA_TOO_LONG",
    ]
    assert [int(code) for code in errors.RequestError] == list(range(6))


@pytest.mark.parametrize(
    ("kind", "parent", "code"),
    [
        (errors.LocalProtocolError, RuntimeError, errors.EVREQ_HTTP_BUFFER_ERROR),
        (errors.RemoteProtocolError, errors.HttpError, errors.EVREQ_HTTP_INVALID_HEADER),
        (errors.InvalidResponse, errors.RemoteProtocolError, errors.EVREQ_HTTP_INVALID_HEADER),
        (errors.BodyTooLong, errors.RemoteProtocolError, errors.EVREQ_HTTP_DATA_TOO_LONG),
        (errors.RequestTimeout, TimeoutError, errors.EVREQ_HTTP_TIMEOUT),
        (errors.ConnectionClosed, ConnectionError, errors.EVREQ_HTTP_EOF),
        (errors.RequestCancelled, errors.HttpError, errors.EVREQ_HTTP_REQUEST_CANCEL),
        (errors.ConnectFailed, ConnectionError, errors.EVREQ_HTTP_EOF),
        (errors.ResolveFailed, OSError, errors.EVREQ_HTTP_EOF),
    ],
)
def test_each_error_has_its_parents_and_its_code(
    kind: type[errors.HttpError], parent: type[Exception], code: errors.RequestError
) -> None:
    error = kind("why")
    assert isinstance(error, parent)
    assert isinstance(error, Error)
    assert error.code is code
    assert str(error) == "why"


def test_a_remote_fault_carries_the_status_that_answers_it() -> None:
    assert errors.RemoteProtocolError("x").status == 400
    assert errors.RemoteProtocolError("x", 431).status == 431
    assert errors.BodyTooLong("x").status == 413
    assert errors.BodyTooLong("x", announced_bytes=7).announced_bytes == 7
    assert errors.InvalidResponse("x").status == 502
