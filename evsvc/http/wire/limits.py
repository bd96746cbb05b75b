"""How much a peer may send: the limits that the readers of both sides hold."""

from dataclasses import dataclass

from ...core.checks import check_limits


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderLimits:
    """Limits for what one connection may receive.  Each is inclusive: exactly the limit passes.

    Raises ArgumentError when a limit is negative, or has no end, ArgumentTypeError for no number.

    max_line_bytes:            request or status line, without CRLF; beyond is 414.
    max_headers_bytes:         whole head, first line and final empty line included; beyond is 431.
    max_headers:               number of fields in a head, or in a trailer section; beyond is 431.
    max_body_bytes:            body without its framing, None is unlimited; beyond is 413.
    max_chunk_extension_bytes: chunk extensions of one body together; beyond is 400.
    max_trailers_bytes:        trailer section of a chunked body; beyond is 431.  Without a field it
                               passes whatever the limit.
    max_blank_lines:           empty lines skipped before a request line; beyond is 400.
    """

    max_line_bytes: int = 8192
    max_headers_bytes: int = 32 * 1024
    max_headers: int = 128
    max_body_bytes: int | None = 16 * 1024 * 1024
    max_chunk_extension_bytes: int = 4096
    max_trailers_bytes: int = 8 * 1024
    max_blank_lines: int = 4

    def __post_init__(self) -> None:
        check_limits(self, or_none=("max_body_bytes",), may_be_zero=True)
