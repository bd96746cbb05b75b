"""ClientResponse: what came of a request, with all that it led to."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from ..errors import HttpError
from ..wire.headers import Headers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .request import HttpRequest
    from .target import Target

_CHARSET = re.compile(r'(?i);\s*charset\s*=\s*"?([^\s";]+)')


class StatusError(HttpError):
    """The answer is an error of the client's (4xx) or the server's (5xx).

    response: the answer.
    """

    def __init__(self, response: ClientResponse) -> None:
        super().__init__(f"{response.url}: {response.status} {response.reason}")
        self.response = response


class ClientResponse:
    """What came of a request; `error` tells whether there is an answer at all.

    method, target: of the request that was answered, the last one where there were redirects.
    status, reason, headers: of the answer; 0, "" and none where there is none.
    body:    what came, unpacked; b"" where a callback took it as it came.
    error:   why there is no answer, or not all of it; None where there is.
    history: the redirects that led here, the first one first.
    elapsed_s: seconds from the call to the end, redirects and waiting in line included.
    trailers: the fields behind a chunked body, or None.
    """

    __slots__ = (
        "body",
        "elapsed_s",
        "error",
        "headers",
        "history",
        "method",
        "reason",
        "status",
        "target",
        "trailers",
    )

    def __init__(
        self,
        method: str,
        target: Target,
        history: Sequence[ClientResponse] = (),
        request: HttpRequest | None = None,
    ) -> None:
        """request: that has been answered, or None."""
        self.method = method
        self.target = target
        self.history = tuple(history)
        if request is None:
            self.status, self.reason, self.headers = 0, "", Headers()
        else:
            self.status, self.reason = request.response_code, request.response_code_line
            self.headers = request.input_headers
        self.trailers: Headers | None = None
        self.body = b""
        self.error: Exception | None = None
        self.elapsed_s = 0.0

    @property
    def url(self) -> str:
        """The URL, without the fragment, and without what it says of the user."""
        return self.target.url

    @property
    def ok(self) -> bool:
        """Whether there is an answer, and no error in it: 1xx to 3xx."""
        return self.error is None and 0 < self.status < 400

    def raise_for_error(self) -> None:
        """Raise why there is no answer, or StatusError for a status from 400 on."""
        if self.error is not None:
            raise self.error
        if not self.ok:
            raise StatusError(self)

    def text(self, errors: str = "replace") -> str:
        """Return the body as text: in the charset of Content-Type, or UTF-8."""
        found = _CHARSET.search(self.headers.find("Content-Type") or "")
        charset = found[1] if found else "utf-8"
        try:
            return self.body.decode(charset, errors)
        except LookupError:
            return self.body.decode("utf-8", errors)

    def json(self) -> Any:
        """Return the body's JSON.  Raises ValueError when it is none."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        outcome = self.status or self.error
        return f"<{type(self).__name__} {self.method} {self.url} {outcome}>"
