"""How much of an application runs at once, and how much waits: the limits of a WsgiHandler."""

from dataclasses import dataclass, fields

from ..core.checks import whole_number
from ..core.errors import ArgumentError


@dataclass(frozen=True, slots=True, kw_only=True)
class WsgiOptions:
    """Limits for one application.  Raises ArgumentError for a number that is out of range.

    threads:          how many requests the application works at at once.
    max_queued:       requests that may wait for a thread, 0 for none; one more is answered 503.
    retry_after_s:    when who was answered so may come again.
    max_input_bytes:  of a body that the application has not read yet; with more the client is held
                      back.  One read of the socket may come on top of it.  No thread is taken
                      before so much has come, or all.
    max_output_bytes: of a reply that the client has not taken yet; with more the application
                      waits, so that what it makes next comes on top of it.
    multiprocess:     whether other processes work with the same application: `wsgi.multiprocess`.
    """

    threads: int = 8
    max_queued: int = 128
    retry_after_s: int = 1
    max_input_bytes: int = 64 * 1024
    max_output_bytes: int = 256 * 1024
    multiprocess: bool = False

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool):
                continue
            least = 0 if each.name in ("max_queued", "retry_after_s") else 1
            if whole_number(value, each.name) < least:
                raise ArgumentError(f"{each.name} must be {least} or more: {value!r}")
