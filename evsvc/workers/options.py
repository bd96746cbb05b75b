"""How long a supervisor waits for its workers, and how often it tries: every limit of `run`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf

from ..core.errors import ArgumentError, ArgumentTypeError


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """Limits and time-outs of workers.

    Raises ArgumentError when a number is not positive (`idle_s` may be 0), ArgumentTypeError for
    what is no number.

    start_s:        how long a worker may take from its start until its setup is done; then it is
                    killed, and counts as one whose setup failed.
    start_tries:    so often is the first worker's setup tried; when none has succeeded the
                    supervisor gives up, with the exit code SETUP_FAILED.
    stop_s:         how long a worker may take to finish what is in flight; then that is closed.
    idle_s:         meanwhile, how long who is connected and was told to stay may send one more
                    request; 0 lets a request fail that is under way just then.
    kill_s:         so long behind `stop_s` a worker that is still there is killed.
    healthy_s:      a worker that lived shorter counts as one that died quickly.
    backoff_s:      after a first quick death a worker is started again so much later, after each
                    further one twice as much; after a long life at once.
    max_backoff_s:  and at most so much later; what comes for its place meanwhile waits.
    metrics_wait_s: how long the sum of all counters waits for a worker; the last known ones of a
                    slower worker are taken.
    backlog:        how many connections may wait in each listening socket; the system has a limit
                    of its own, too (Linux: net.core.somaxconn).
    unix_mode:      the permissions of Unix sockets' files, such as 0o660; None leaves them to the
                    umask.
    """

    start_s: float = 60.0
    start_tries: int = 3
    stop_s: float = 30.0
    idle_s: float = 1.0
    kill_s: float = 5.0
    healthy_s: float = 10.0
    backoff_s: float = 0.5
    max_backoff_s: float = 10.0
    metrics_wait_s: float = 1.0
    backlog: int = 1024
    unix_mode: int | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "unix_mode":
                continue  # judged where it is used
            kinds = (int,) if isinstance(each.default, int) else (int, float)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise ArgumentTypeError(f"{each.name} is a number, not {value!r}")
            if not (0 < value < inf or (each.name == "idle_s" and value == 0)):
                raise ArgumentError(f"{each.name} must be positive: {value!r}")
