"""What few connections have, kept apart: a plain exchange looks at one slot for all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..wire.proxy_protocol import ProxyHeader
    from .body_intake import BodyIntake
    from .observing.observers import Watch
    from .pace import BodyPace, OutputPace
    from .request import ServerRequest
    from .service import Callback


class Extras:
    """Callbacks of the program's, streams, and what was measured or told of one connection.

    Of the request in hand: intake, of a body that is streamed; body_pace, of one that does not
    come at once; expects_continue, its client waits for 100; complete_cb, gone_cb.  Of the
    connection: completed, the replies whose completion is to be told when they are sent;
    output_pace, while the output is looked at; chunk_cb, closecb; skipped_bytes, of the body that
    is thrown away; watch, for observers; proxy_header, what the PROXY protocol told.
    """

    __slots__ = (
        "body_pace",
        "chunk_cb",
        "closecb",
        "complete_cb",
        "completed",
        "expects_continue",
        "gone_cb",
        "intake",
        "output_pace",
        "proxy_header",
        "skipped_bytes",
        "watch",
    )

    def __init__(self) -> None:
        self.intake: BodyIntake | None = None
        self.body_pace: BodyPace | None = None
        self.output_pace: OutputPace | None = None
        self.expects_continue = False
        self.complete_cb: Callback | None = None
        self.gone_cb: Callback | None = None
        self.completed: list[tuple[ServerRequest, Callback]] = []
        self.chunk_cb: Callback | None = None
        self.closecb: Callback | None = None
        self.skipped_bytes = 0
        self.watch: Watch | None = None
        self.proxy_header: ProxyHeader | None = None

    @property
    def waits_for_output(self) -> bool:
        """Whether somebody is to be told when the output is empty."""
        return bool(self.completed) or self.chunk_cb is not None

    def let_go(self) -> None:
        """Forget what is never to be called any more: the connection is closed."""
        self.completed.clear()
        self.complete_cb = self.chunk_cb = None

    def forget_output(self) -> None:
        """Look no longer at how the output is taken."""
        if self.output_pace is not None:
            self.output_pace.close()
            self.output_pace = None
