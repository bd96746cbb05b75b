"""epoll(7): the kernel keeps the list, and each change of it is a system call.

What has to be known of it
    A registration is keyed by (descriptor number, open file), and lives as long as the open file
    does, not the number.  dup() and fork() make a second name for the file, often unnoticed: a
    child that was started while a connection was open holds that connection.  As long as only the
    number is closed here, epoll goes on to report it, under a number that is nobody's or belongs
    to another file by now, and epoll_ctl cannot reach the registration any more: it looks the
    number up first, and answers EBADF (the number is closed) or ENOENT (it is another file).  Such
    an *orphan* is ready for ever, as nobody reads it, and the loop would not rest.  Whoever deletes
    his event before he closes the descriptor never meets one; who does not is told nothing.

    So orphans are looked for where the kernel gives a sign.  A report that no event waits for is
    one for certain, if the map has not changed since the wait: the evmap sees that, and has the
    epoll descriptor made anew, which is the only way to be rid of it.  A number whose registration
    the kernel did not know when it was to be changed is `doubtful` from then on: it may have left
    an orphan, which would be taken for the file that has the number now.  What is reported for
    such a number is asked of poll(2) again, which looks at the file of today; when that is not
    ready, a mask of 0 tells the loop that no event waits for this.  It costs two microseconds a
    report, for programs that close first.  No sign is given when a number is closed and opened
    again while its event stays as it is: that event is deaf, or hears of the old file.

    EEXIST and ENOENT also come from a number that was used again, when the file is the same
    (another dup) or the kernel has forgotten it with its last close: each is mended by the other
    operation.  EPERM says that the file can never block: regular files, /dev/null.  They cannot be
    watched, and `add` says so; poll and select find them ready at all times.  EPOLLERR and EPOLLHUP
    come unasked, and wake every direction: whoever waits sees the error from his own call.

Level-triggered, unless EV_ET is asked for
    What is left unread is reported again, so a callback may take as much as it likes and the loop
    needs no list of its own of who is not done; an event that comes late misses nothing.  The price
    is one more wait for what was left.

Time
    epoll_wait counts milliseconds.  Fractions are rounded up: rounded down, the loop would wake
    before a timer and ask again, without waiting, until it is due.  To be `precise`
    (EVENT_BASE_FLAG_PRECISE_TIMER) the wait itself is select(2)'s, on the epoll descriptor, for one
    more system call each, where its number is one that select takes.

The changelist
    It keeps what changes between two waits, and tells the kernel what is left of it.  This saves
    calls where an event comes and goes beside another that stays.  What begins or ends to be
    watched is told at once: a refusal can then raise at the call, and a descriptor that is closed
    after its event was deleted is unknown to the kernel by then, whoever else holds the file.  In
    between, the kernel knows less than the program: a descriptor that is closed, or replaced with
    dup2(), before a change was told is refused only at the wait.  Nobody is there to be raised at,
    so the descriptor is reported as broken: all of its events are called, and see the error from
    their own recv or send.  Source: EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST.
"""

from __future__ import annotations

import contextlib
import logging
import select

from ..flags import CLOSED, ET, READ, WRITE, Feature
from .protocol import ALL, MAX_READY, Ready, every_mask

logger = logging.getLogger("evsvc.core")

# Written out, because the module is imported where there is no epoll, too.
_IN, _OUT, _ERR, _HUP, _RDHUP, _EDGE = 0x001, 0x004, 0x008, 0x010, 0x2000, 1 << 31

# select(2) takes descriptors below this number.
_FD_SETSIZE = 1024


class EpollBackend:
    """epoll, level-triggered unless EV_ET is asked for.

    precise: have waits end at the microsecond.
    """

    __slots__ = ("_doubtful", "_epoll", "_precise")

    name = "epoll"
    features = Feature.EV_FEATURE_ET | Feature.EV_FEATURE_O1 | Feature.EV_FEATURE_EARLY_CLOSE
    meanings = every_mask(((_IN, READ), (_OUT, WRITE), (_RDHUP, CLOSED), (_ERR, ALL), (_HUP, ALL)))

    def __init__(self, *, precise: bool = False) -> None:
        self._precise = precise
        self._open()

    def _open(self) -> None:
        self._epoll = select.epoll()
        self._precise = self._precise and self._epoll.fileno() < _FD_SETSIZE
        self._doubtful: set[int] = set()

    def add(self, fd: int, old: int, new: int) -> None:
        """Watch.  Raises OSError (EPERM for a regular file, EBADF for no file)."""
        self._set(fd, _mask(old | new), known=bool(old))

    def delete(self, fd: int, old: int, gone: int) -> None:
        """Stop watching."""
        left = old & ~gone
        try:
            if left & ALL:
                self._set(fd, _mask(left), known=True)
            else:
                self._epoll.unregister(fd)
        except OSError:
            self._doubtful.add(fd)

    def dispatch(self, timeout: float | None) -> Ready:
        """Wait."""
        if timeout is None:
            timeout = -1
        elif self._precise and timeout:
            select.select([self._epoll], [], [], timeout)
            timeout = 0
        ready = self._epoll.poll(timeout, MAX_READY)
        return self._ask_again(ready) if self._doubtful else ready

    def dealloc(self) -> None:
        """Close the kernel's object."""
        self._epoll.close()

    def renew(self) -> None:
        """Close it and take another one."""
        with contextlib.suppress(OSError):  # a child may have closed all that it inherited
            self._epoll.close()
        self._open()

    def fileno(self) -> int:
        """Return epoll's descriptor, which another loop can watch."""
        return self._epoll.fileno()

    def _set(self, fd: int, mask: int, *, known: bool) -> None:
        try:
            if known:
                self._epoll.modify(fd, mask)
            else:
                self._epoll.register(fd, mask)
        except FileNotFoundError:
            self._doubtful.add(fd)
            self._epoll.register(fd, mask)
        except FileExistsError:
            self._epoll.modify(fd, mask)

    def _ask_again(self, ready: Ready) -> Ready:
        return [(fd, _look(fd, mask) if fd in self._doubtful else mask) for fd, mask in ready]


class ChangelistEpollBackend(EpollBackend):
    """epoll that is told of changes just before the next wait, and only of what is left of them."""

    __slots__ = ("_changes",)

    name = "epoll (with changelist)"

    def _open(self) -> None:
        super()._open()
        # By descriptor: what the kernel watches for, and what it shall.
        self._changes: dict[int, tuple[int, int]] = {}

    def add(self, fd: int, old: int, new: int) -> None:
        """Watch.  Raises OSError as epoll does, for a descriptor that was not watched before."""
        if old:
            self._change(fd, old, old | new)
        else:
            super().add(fd, old, new)

    def delete(self, fd: int, old: int, gone: int) -> None:
        """Stop watching."""
        left = old & ~gone
        if left & ALL:
            self._change(fd, old, left)
        else:
            self._changes.pop(fd, None)
            super().delete(fd, old, gone)

    def dispatch(self, timeout: float | None) -> Ready:
        """Tell the kernel what has changed, and wait."""
        if not self._changes:
            return super().dispatch(timeout)
        refused = self._apply()
        return refused + super().dispatch(0 if refused else timeout)

    def _change(self, fd: int, old: int, wanted: int) -> None:
        known, _ = self._changes.get(fd, (old, old))
        self._changes[fd] = known, wanted

    def _apply(self) -> Ready:
        """Tell the kernel; return what it refused, as broken."""
        refused: Ready = []
        changes, self._changes = self._changes, {}
        for fd, (known, wanted) in changes.items():
            if wanted == known:
                continue
            try:
                self._set(fd, _mask(wanted), known=True)
            except OSError as exc:
                logger.warning("epoll cannot watch descriptor %d: %s", fd, exc.strerror)
                refused.append((fd, _ERR))
        return refused


def _mask(what: int) -> int:
    mask = _IN if what & READ else 0
    if what & WRITE:
        mask |= _OUT
    if what & CLOSED:
        mask |= _RDHUP
    if what & ET:
        mask |= _EDGE
    return mask


def _look(fd: int, mask: int) -> int:
    """Return what poll(2) says, whose bits are epoll's; 0 when it is not ready."""
    poll = select.poll()
    poll.register(fd, mask)
    for _, now in poll.poll(0):
        return _ERR if now & select.POLLNVAL else now
    return 0
