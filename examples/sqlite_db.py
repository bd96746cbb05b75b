"""Questions to an SQLite database, asked by anybody over HTTP, without holding up the loop.

Usage: sqlite_db.py database [port]

    GET /db/?q=SELECT...   rows as JSON; only what reads

How long a query takes nobody knows before, so it runs in a thread, and `base.post` brings the
result back into the loop, which alone speaks to the clients.  Work is bounded everywhere: one
query at a time, few that wait (more get 503), time, rows and bytes for each, and what its client
no longer waits for is given up.  A query of one row by its key takes microseconds; a program that
asks nothing else may as well ask in the callback itself.
"""

import argparse
import json
import math
import queue
import sqlite3
import sys
import threading
import time
from pathlib import Path

from evsvc import EventBase, HttpServer
from evsvc.http import EVHTTP_URI_QUERY_NONCONFORMANT

MOST_WAITING = 16
MOST_SECONDS = 2.0
MOST_ROWS = 1000
MOST_BYTES = 1024 * 1024  # of a value, and of a reply
STEPS = 10_000  # of SQLite's machine between two looks at the clock

READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}


class Query:
    """One question.  The loop sets `given_up`, the thread reads it."""

    def __init__(self, request, sql):
        self.request = request
        self.sql = sql
        self.given_up = False
        self.until = 0.0

    def must_stop(self):
        return self.given_up or time.monotonic() > self.until


def open_database(path):
    """Open it for reading alone, whatever is asked: no ATTACH, no PRAGMA, no extensions."""
    found = sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True)
    found.execute("SELECT 1 FROM sqlite_master").fetchone()
    found.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES)
    found.set_authorizer(
        lambda action, *what: sqlite3.SQLITE_OK if action in READING else sqlite3.SQLITE_DENY
    )
    return found


def work(base, path, waiting):
    """The thread: take a query, run it, hand the result to the loop."""
    database = open_database(path)
    while (query := waiting.get()) is not None:
        query.until = time.monotonic() + MOST_SECONDS
        database.set_progress_handler(query.must_stop, STEPS)
        base.post(finish, query, *result_of(database, query))


def result_of(database, query):
    """Return the status and the text of the reply."""
    if query.given_up:
        return 503, "nobody waits"
    rows, size, is_whole = [], 0, True
    try:
        cursor = database.execute(query.sql)
        for row in cursor:
            rows.append([as_json(value) for value in row])
            size += sum(len(value) for value in rows[-1] if isinstance(value, str))
            if len(rows) > MOST_ROWS or size > MOST_BYTES:
                rows.pop()
                is_whole = False
                break
        columns = [column[0] for column in cursor.description or ()]
        cursor.close()
    except sqlite3.OperationalError as error:
        is_late = str(error) == "interrupted"
        return (503, "it takes too long") if is_late else (400, str(error))
    except (sqlite3.Error, sqlite3.Warning, OverflowError) as error:
        return 400, str(error)
    return 200, json.dumps({"columns": columns, "rows": rows, "whole": is_whole})


def as_json(value):
    """Return what JSON has, too: not bytes, and no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value.hex() if isinstance(value, bytes) else value


def ask(request, waiting):
    """Put a query into the line; the answer comes by `finish`."""
    try:
        asked = request.parse_query(EVHTTP_URI_QUERY_NONCONFORMANT).find("q")
    except ValueError:
        asked = None
    if not asked:
        request.send_error(400)
        return
    query = Query(request, asked)
    try:
        waiting.put_nowait(query)
    except queue.Full:
        request.send_error(503, None, ("Retry-After", "1"))
        return
    request.set_on_gone_cb(give_up, query)


def give_up(request, query):
    query.given_up = True


def finish(query, status, text):
    """In the loop again: answer, if there is still somebody."""
    kind = "application/json" if status == 200 else "text/plain; charset=utf-8"
    query.request.output_headers.add("Content-Type", kind)
    query.request.send_reply(status, None, text.encode("utf-8", "replace"))


parser = argparse.ArgumentParser()
parser.add_argument("database")
parser.add_argument("port", type=int, nargs="?", default=8080)
args = parser.parse_args()

with EventBase() as base, HttpServer(base) as server:
    waiting = queue.Queue(MOST_WAITING)
    server.set_cb("/db/", ask, waiting, methods=("GET",))
    try:
        open_database(args.database).close()
        bound = server.bind_socket("127.0.0.1", args.port)
    except ValueError as error:
        parser.error(str(error))
    except (OSError, sqlite3.Error) as error:
        sys.exit(f"sqlite_db.py: {error}")
    threading.Thread(target=work, args=(base, args.database, waiting), daemon=True).start()
    print(f"http://127.0.0.1:{bound.port}/db/?q=SELECT+name+FROM+sqlite_master", flush=True)
    base.dispatch()
