"""What an application meets when its client has left it."""

from ..core.errors import Error


class ClientGone(Error, ConnectionAbortedError):
    """The client has gone, or sends no good body: nobody waits for what the application does.

    Reading `wsgi.input` raises it, and `write`.  It is an OSError, as frameworks expect it.
    """
