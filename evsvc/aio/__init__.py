"""asyncio and evsvc in one loop: an asyncio event loop whose wait is an event base."""

from .loop import EventLoop, run

__all__ = ["EventLoop", "run"]
