"""A WSGI application on a server."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import Any
from wsgiref.validate import validator

from evsvc.core import EVLOOP_NO_EXIT_ON_EMPTY, EventBase
from evsvc.http import HttpServer, ServerOptions
from evsvc.wsgi import WsgiHandler, WsgiOptions
from tests.hosted import PATIENCE_S, Hosted


class Gateway(Hosted):
    """An application on a server, in a thread of its own.

    is_validated: whether wsgiref looks at both sides of every call.  how: options of WsgiOptions
    and ServerOptions alike.
    """

    def __init__(
        self, application: Any, *, prefix: str = "/", is_validated: bool = True, **how: Any
    ) -> None:
        names = {field.name for field in fields(WsgiOptions)}
        options = WsgiOptions(**{name: how.pop(name) for name in names & set(how)})
        base = EventBase()
        server = HttpServer(base, ServerOptions(**how))
        shown = validator(application) if is_validated else application
        self.handler = WsgiHandler(base, shown, options)
        self.handler.mount(server, prefix)
        super().__init__(base, server, partial(base.loop, EVLOOP_NO_EXIT_ON_EMPTY))

    def ask_to_stop(self) -> None:
        self.server.close()
        self.handler.shutdown(lambda handler: self.base.loopexit(), deadline_s=PATIENCE_S)

    def close(self) -> None:
        super().close()
        assert self.handler.join(PATIENCE_S)
