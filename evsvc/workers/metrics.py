"""The counters of all workers, as one of them sees and shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..core.checks import require_callable
from ..core.errors import StateError
from ..http import MetricsReading
from ..http.server.observing.metrics import send_page

if TYPE_CHECKING:
    from ..http import HttpServer, ServerMetrics, ServerRequest

SumCallback = Callable[[MetricsReading | None], object]
"""Called as `cb(reading)` with the sum, or None when it cannot be had any more."""

MAX_WAITING: Final = 256
"""So many may wait for the sum in a worker at once; one more is refused."""


class WorkerMetrics:
    """Counters of this worker's servers, and the way to the sum of all workers': `worker.metrics`.

    What a worker has counted stays in the sum when it ends.  Of one that was killed it is what was
    last known; where somebody collects the sum again and again, that is not much older.
    """

    __slots__ = ("_ask", "_asked", "_servers", "_to_ask")

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self._servers: list[ServerMetrics] = []
        self._asked: list[SumCallback] = []  # of whom the supervisor knows
        self._to_ask: list[SumCallback] = []  # who came later, and wants what is true later

    def count(self, server: HttpServer) -> None:
        """Have the exchanges of a server in the sum, from now on."""
        self._servers.append(server.metrics)

    def read(self) -> MetricsReading:
        """Return the sum of this worker's own servers."""
        return sum((metrics.read() for metrics in self._servers), MetricsReading())

    def get(self, cb: SumCallback) -> None:
        """Call `cb(reading)` with the sum of all workers, from the loop.

        Raises StateError when MAX_WAITING wait already, ArgumentTypeError for what cannot be
        called.
        """
        require_callable(cb)
        if len(self._asked) + len(self._to_ask) >= MAX_WAITING:
            raise StateError(f"{MAX_WAITING} wait for the sum of the workers' counters already")
        self._to_ask.append(cb)
        self._ask_next()

    def mount(self, server: HttpServer, path: str = "/metrics") -> None:
        """Have GET of `path` answered with the sum of all workers, in Prometheus's text format.

        Who may see the path may see the figures.  503 is answered where the sum cannot be had.
        Raises ArgumentError when the path has a callback already.
        """
        server.set_cb(path, self._answer, methods=("GET",))

    def answered(self, reading: MetricsReading | None) -> None:
        """Take the supervisor's answer, or know that there will be none; not for programs."""
        waiting, self._asked = self._asked, []
        if reading is None:
            waiting += self._to_ask
            self._to_ask = []
        for cb in waiting:
            cb(reading)
        self._ask_next()

    def _ask_next(self) -> None:
        if self._to_ask and not self._asked:
            self._asked, self._to_ask = self._to_ask, []
            self._ask()

    def _answer(self, request: ServerRequest, arg: object) -> None:
        def show(reading: MetricsReading | None) -> None:
            if reading is None:
                request.send_error(503)
            else:
                send_page(request, reading)

        try:
            self.get(show)
        except StateError:
            request.send_error(503, None, ("Retry-After", "1"))
