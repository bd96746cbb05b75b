"""What can go wrong with an application before it answers anything."""

from ..core.errors import Error


class LifespanFailed(Error, RuntimeError):
    """The application says that it cannot start, or does not say in time that it can."""
