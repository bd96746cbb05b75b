"""Work that would block the loop goes to threads, and its results come back through `post`.

Usage: work_queue.py [jobs [workers]]

The loop ticks on meanwhile.  `post` is the call for other threads: what it is given runs in the
loop's thread, and may use the base and its events freely.
"""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import current_thread

from evsvc import EventBase
from evsvc.core import event_self_cbarg


def work(number):
    """Take a while, in a worker's thread: nothing of the base is touched here."""
    digest = hashlib.pbkdf2_hmac("sha256", b"password %d" % number, b"salt", 100_000)
    return number, digest.hex()[:8], current_thread().name


def on_result(future):
    """Print a result, in the loop's thread; the last one stops the ticks, and so the loop."""
    number, digest, worker = future.result()  # raises here what `work` raised there
    print(f"job {number}: {digest} from {worker}, told in {current_thread().name}", flush=True)
    waiting.remove(number)
    if not waiting:
        ticks.delete()


def on_tick(fd, what, timer):
    """Show that the loop is free."""
    print(f"tick: {len(waiting)} jobs to come", flush=True)
    timer.add(0.05)


try:
    waiting = set(range(1, 1 + (int(sys.argv[1]) if len(sys.argv) > 1 else 8)))
    if not waiting:
        raise ValueError(f"jobs are 1 or more: {sys.argv[1]}")
    workers = ThreadPoolExecutor(int(sys.argv[2]) if len(sys.argv) > 2 else 2, "worker")
except ValueError as error:
    sys.exit(f"work_queue.py: {error}")

with EventBase() as base, workers:
    ticks = base.timer(on_tick, event_self_cbarg)
    ticks.add(0)
    for number in sorted(waiting):
        workers.submit(work, number).add_done_callback(partial(base.post, on_result))
    base.dispatch()
