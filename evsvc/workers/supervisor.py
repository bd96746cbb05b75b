"""Supervisor: starts workers, keeps them alive, replaces and stops them.

It has a base of its own, on which signals, time, and what workers say are events.  Their callbacks
only tell the roster what has happened; its orders are carried out between two passes of the loop,
so that no worker is forked inside a callback, and none inherits a loop that runs.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from math import inf
from os import PathLike
from typing import Final

from ..core import EV_PERSIST, EVLOOP_NONBLOCK, EVLOOP_ONCE, Event, EventBase
from ..core.checks import require_callable, whole_number
from ..core.closing import Closing
from ..core.errors import ArgumentError, StateError
from ..core.reactor.fork import runs_in_a_loop
from ..stopping import SIGNALS, StopSignals
from .channel import Channel
from .child import FAILED, HELD_SIGNALS, SetupCallback, live
from .listening import Address, Binds, Listening, SlotSockets
from .messages import Kind, Message, MessageError, counts_of, reading_of
from .options import WorkerOptions
from .phases import Phase
from .roster import Action, Member, Roster
from .systemd import Notifier
from .tally import Tally

logger = logging.getLogger("evsvc.workers")

MAX_WORKERS: Final = 1024
"""More is a slip of the keyboard."""


class _Process:
    """A worker's process, its end of the channel, and its place in the roster."""

    __slots__ = ("channel", "member", "pid")

    def __init__(self, pid: int, member: Member) -> None:
        self.pid = pid
        self.member = member
        self.channel: Channel

    def __str__(self) -> str:
        return f"worker {self.member.number} (process {self.pid})"


class Supervisor(Closing):
    """Has a number of processes run `setup(worker)`, and serve.

    setup: called in each worker's process, before its loop runs; there it makes its servers, on
    `worker.base`, with the sockets that it finds in `worker.tcp` and so on.  What it raises is
    logged, and the worker counts as one that did not start.
    workers: how many; None is one for each CPU that this process may use.
    tcp, udp: numeric hosts with their ports, port 0 for any free one.  unix: paths of sockets.
    sockets: that are bound already, such as systemd's; they belong to the supervisor from now on.

    The sockets are bound at once, and what comes before a worker is ready waits for it.

    Raises SocketError for an address that is busy or not ours, ArgumentError for what is no
    address or no number of workers, ArgumentTypeError for what cannot be called, StateError
    outside the main thread and inside the loop of an event base: neither can be forked.
    """

    __slots__ = (
        "_base",
        "_counts_are_late",
        "_counts_timer",
        "_listening",
        "_notifier",
        "_options",
        "_processes",
        "_roster",
        "_setup",
        "_tally",
        "_wake",
        "_was_reloading",
        "_was_up",
        "workers",
    )

    def __init__(
        self,
        setup: SetupCallback,
        workers: int | None = None,
        *,
        tcp: Sequence[Address] = (),
        udp: Sequence[Address] = (),
        unix: Sequence[str | PathLike[str]] = (),
        sockets: Sequence[socket.socket] = (),
        options: WorkerOptions | None = None,
    ) -> None:
        require_callable(setup, "setup")
        self.workers = _usable_cpus() if workers is None else whole_number(workers, "workers")
        if not 1 <= self.workers <= MAX_WORKERS:
            raise ArgumentError(f"workers are 1 to {MAX_WORKERS}: {workers!r}")
        _require_may_fork()
        self._setup = setup
        self._options = options or WorkerOptions()
        self._base = EventBase()
        self._base.exception_handler = _log_exception
        try:
            self._listening = Listening(
                self._base,
                self.workers,
                Binds(tcp=tcp, udp=udp, unix=unix, sockets=sockets),
                self._options.backlog,
                self._options.unix_mode,
            )
        except BaseException:
            self._base.close()
            raise
        self._roster = Roster(self.workers, self._options)
        self._processes: dict[int, _Process] = {}
        self._tally: Tally[_Process] = Tally()
        self._notifier: Notifier | None = None
        self._wake = self._base.timer(_nothing)
        self._counts_timer = self._base.timer(self._on_counts_late)
        self._counts_are_late = self._was_reloading = self._was_up = False

    @property
    def sockets(self) -> SlotSockets:
        """The sockets of the first worker, which have the addresses of all others', too.

        They are closed when the supervisor is told to stop.
        """
        return self._listening.slot(0)

    def run(self) -> int:
        """Run workers until SIGTERM or SIGINT, and return an exit code.

        SIGHUP replaces them, one after the other, each when its successor is ready.  SIGTERM and
        SIGINT have them finish what is in flight, and once more end it at once.

        Returns 0 when all have finished in order, 1 when some were cut off, SETUP_FAILED (3) when
        no worker's setup has ever succeeded.  systemd is told what happens, where it has asked for
        that.  It is closed then.  Raises StateError as the constructor, and behind `close`.
        """
        _require_may_fork()
        if self._base.reactor.closed:
            raise StateError("the supervisor is closed")
        if threading.active_count() > 1:
            logger.warning("workers have none of the other threads, and their locks as they are")
        with self._signals(), Notifier() as self._notifier:
            self._begin_watchdog()
            try:
                self._supervise()
            finally:
                self._end_all()
        self.close()
        return self._roster.exit_code

    def close(self) -> None:
        """Close the sockets, and remove the files of Unix sockets.  Safe to repeat."""
        self._listening.close()
        self._base.close()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        handlers = {signum: signal.getsignal(signum) for signum in SIGNALS}
        stopping = StopSignals(self._base, self._stop, self._cut)
        others = [
            self._base.signal(signal.SIGHUP, lambda *event: self._reload()),
            self._base.signal(signal.SIGCHLD, _nothing),  # the loop is to return for it
        ]
        for event in others:
            event.add()
        try:
            yield
        finally:
            stopping.close()
            for event in others:
                event.close()
            for signum, handler in handlers.items():
                signal.signal(signum, signal.SIG_DFL if handler is None else handler)

    def _begin_watchdog(self) -> None:
        assert self._notifier is not None
        notifier, seconds = self._notifier, self._notifier.watchdog_s
        if seconds is not None:
            watchdog = Event(self._base, -1, EV_PERSIST, lambda *event: notifier.alive())
            watchdog.add(seconds)

    def _supervise(self) -> None:
        roster = self._roster
        while True:
            self._carry_out()
            self._tell_counts()
            self._tell_progress()
            if roster.is_over:
                return
            deadline = roster.next_deadline()
            if deadline < inf:
                self._wake.add(max(deadline - self._base.gettime_monotonic(), 0))
            else:
                self._wake.delete()
            self._base.loop(EVLOOP_ONCE)
            self._reap()

    def _carry_out(self) -> None:
        while orders := self._roster.due(self._base.gettime_monotonic()):
            by_member = {process.member: process for process in self._processes.values()}
            for action, member in orders:
                if action is Action.START:
                    self._start(member)
                elif action is Action.STOP:
                    by_member[member].channel.send(Message(Kind.STOP))
                else:
                    with suppress(ProcessLookupError):
                        os.kill(by_member[member].pid, signal.SIGKILL)

    def _start(self, member: Member) -> None:
        """Fork a worker; where the system cannot, it is one that has failed."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as exc:
            self._not_started(member, exc)
            return
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()  # or the child would print what waits here once more
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
        try:
            pid = os.fork()
            if not pid:
                self._become_worker(member.number, ours, theirs)
        except BaseException as exc:
            ours.close()
            if not isinstance(exc, OSError):
                raise
            self._not_started(member, exc)
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        process = self._processes[pid] = _Process(pid, member)
        process.channel = Channel(
            self._base, ours, partial(self._on_message, process), partial(self._on_end, process)
        )
        logger.info("%s starts", process)

    def _not_started(self, member: Member, exc: OSError) -> None:
        logger.error("worker %d cannot be started: %s", member.number, exc)
        self._roster.exited(member, self._base.gettime_monotonic())

    def _become_worker(self, number: int, ours: socket.socket, theirs: socket.socket) -> None:
        """In the child: let go of what is the supervisor's, and never come back."""
        try:
            ours.close()
            for process in self._processes.values():
                process.channel.close()
            if self._notifier is not None:
                self._notifier.close()
            sockets = self._listening.keep_only(number)
            self._base.close()
            live(number, sockets, theirs, self._setup, self._options)
        except BaseException:
            logger.critical("worker %d does not come to its setup", number, exc_info=True)
        finally:
            os._exit(FAILED)

    def _reap(self) -> None:
        """See who has ended."""
        for process in list(self._processes.values()):
            try:
                pid, status = os.waitpid(process.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for it
                pid, status = process.pid, 0
            if pid:
                self._ended(process, os.waitstatus_to_exitcode(status))

    def _ended(self, process: _Process, code: int) -> None:
        while process.channel.has_unread():  # its last words
            self._base.loop(EVLOOP_NONBLOCK)
        process.channel.close()
        del self._processes[process.pid]
        self._tally.forget(process)
        was_told = process.member.phase in (Phase.STOPPING, Phase.KILLED)
        level = logging.INFO if was_told else logging.ERROR
        how = f"with code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
        logger.log(level, "%s has ended %s", process, how)
        self._roster.exited(process.member, self._base.gettime_monotonic())

    def _end_all(self) -> None:
        """Leave no worker behind, whatever has happened."""
        for process in self._processes.values():
            os.kill(process.pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(process.pid, 0)
            process.channel.close()
        self._processes.clear()

    def _reload(self) -> None:
        if not self._roster.is_stopping:
            logger.info("SIGHUP: the workers are replaced")
            self._roster.reload(self._base.gettime_monotonic())

    def _stop(self) -> None:
        assert self._notifier is not None
        self._notifier.stopping()
        self._roster.stop()
        self._listening.close()  # so that who comes now is refused, and does not wait for nobody

    def _cut(self) -> None:
        self._roster.cut(self._base.gettime_monotonic())

    def _on_message(self, process: _Process, message: Message) -> None:
        member, roster = process.member, self._roster
        if message.kind is Kind.READY and member.phase is not Phase.SERVING:
            logger.info("%s is ready", process)
            roster.ready(member, self._base.gettime_monotonic())
        elif message.kind is Kind.RELOAD:
            if member.phase is Phase.SERVING and not roster.is_stopping:
                logger.info("%s asks for new workers", process)
                roster.reload(self._base.gettime_monotonic())
        elif message.kind is Kind.ASK:
            self._tally.ask(process)
        elif message.counts is not None:
            try:
                self._tally.count(process, reading_of(message.counts))
            except MessageError as exc:
                self._misbehaves(process, str(exc))
        else:
            self._misbehaves(process, f"{message.kind.name} is not for it to say")

    def _on_end(self, process: _Process, why: str) -> None:
        if why:
            self._misbehaves(process, why)
        else:  # its process is about to end, as a rule
            at = self._base.gettime_monotonic() + self._options.kill_s
            process.member.kill(at, "it cannot be talked to")

    def _misbehaves(self, process: _Process, why: str) -> None:
        process.member.kill(self._base.gettime_monotonic(), why)

    def _tell_counts(self) -> None:
        """Ask for counters, and send the sum to who wants it."""
        tally = self._tally
        for process in tally.end(is_late=self._counts_are_late):
            self._counts_timer.delete()
            process.channel.send(counts_of(tally.total))
        self._counts_are_late = False
        able = [
            process
            for process in self._processes.values()
            if process.member.phase in (Phase.SERVING, Phase.STOPPING)
        ]
        asked = tally.begin(able)
        for process in asked:
            process.channel.send(Message(Kind.ASK))
        if asked:
            self._counts_timer.add(self._options.metrics_wait_s)

    def _on_counts_late(self, fd: int, what: int, arg: object) -> None:
        self._counts_are_late = True

    def _tell_progress(self) -> None:
        """Tell the log, and systemd, of what has changed since the last time."""
        roster, notifier = self._roster, self._notifier
        assert notifier is not None
        if roster.is_stopping:
            return
        status = f"{self.workers} workers"
        if not self._was_up and roster.serving >= self.workers:
            self._was_up = True
            logger.info("all workers are ready")
            notifier.ready(status)
        if roster.is_reloading != self._was_reloading:
            self._was_reloading = roster.is_reloading
            if roster.is_reloading:
                notifier.reloading()
            else:
                logger.info("the rolling restart is over")
                notifier.ready(status)


def run(
    setup: SetupCallback,
    workers: int | None = None,
    *,
    tcp: Sequence[Address] = (),
    udp: Sequence[Address] = (),
    unix: Sequence[str | PathLike[str]] = (),
    sockets: Sequence[socket.socket] = (),
    options: WorkerOptions | None = None,
) -> int:
    """Run `setup(worker)` in a number of processes until SIGTERM or SIGINT; return an exit code.

    All is as for Supervisor, which tells the addresses, too, before it runs.
    """
    supervisor = Supervisor(
        setup, workers, tcp=tcp, udp=udp, unix=unix, sockets=sockets, options=options
    )
    with supervisor:
        return supervisor.run()


def _require_may_fork() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise StateError("workers are run from the main thread: signals come to no other")
    if runs_in_a_loop():
        raise StateError("workers are not run inside an event base's loop, which would be forked")


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _nothing(fd: int, what: int, arg: object) -> None:
    """Let the loop return."""


def _log_exception(exc: Exception) -> None:
    logger.error("a callback of the supervisor failed", exc_info=exc)
