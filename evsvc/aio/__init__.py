"""asyncio and evsvc in one thread: a loop that waits in an event base, and a base that is driven
by a loop."""

from .attach import Attachment, attach
from .loop import EventLoop, run

__all__ = ["Attachment", "EventLoop", "attach", "run"]
