"""docs/libevent-map.md: every name in it exists, on both sides, and no row is missing.

tests/libevent_functions.txt has a line `name header` for each public function of libevent 2.2 and
each macro that is used like one.  The page has a section for each header, with a table
`| libevent | evsvc | note |`, and a line at its top that tells which headers are complete.
tests/libevent14_functions.txt is such a list for libevent 1.4, whose names stand under the headers
that libevent 2 keeps them in.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

_COMPLETE = re.compile(r"^Complete: (.+?)\n\n", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"\| `(\w+)` \| (-|`[\w.]+`(?:, `[\w.]+`)*) \| ([^|]*)\|")
_TABLE_HEAD = ("| libevent | evsvc | note |", "| --- | --- | --- |")


@dataclass(frozen=True)
class Row:
    """A line of a table: the C name, the names in evsvc that stand for it, a note."""

    header: str
    name: str
    targets: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class Page:
    """What the page says; `malformed` are lines of its tables that are no rows."""

    complete: frozenset[str]
    rows: tuple[Row, ...]
    malformed: tuple[str, ...]


def parse_functions(text: str) -> dict[str, str]:
    """Return the header of each C name."""
    pairs = [line.split() for line in text.splitlines()]
    functions: dict[str, str] = dict(pairs)
    assert len(functions) == len(pairs), "a name is listed twice"
    return functions


def parse_page(text: str) -> Page:
    found = _COMPLETE.search(text)
    complete = frozenset(re.findall(r"\w+\.h", found[1])) if found else frozenset()
    rows: list[Row] = []
    malformed: list[str] = []
    header = ""
    for line in text.splitlines():
        if line.startswith("## "):
            header = line.removeprefix("## ").strip()
        if not line.startswith("|") or line in _TABLE_HEAD:
            continue
        cells = _ROW.fullmatch(line)
        if cells is None:
            malformed.append(line)
        else:
            targets = tuple(re.findall(r"[\w.]+", cells[2])) if cells[2] != "-" else ()
            rows.append(Row(header, cells[1], targets, cells[3].strip()))
    return Page(complete, tuple(rows), tuple(malformed))


def exists(dotted: str) -> bool:
    """Tell whether a dotted name can be reached by import and attributes."""
    parts = dotted.split(".")
    if parts[0] != "evsvc":
        return False
    thing: object = importlib.import_module(parts[0])
    path = parts[0]
    for part in parts[1:]:
        path = f"{path}.{part}"
        if not hasattr(thing, part):
            try:
                importlib.import_module(path)
            except ModuleNotFoundError:
                return False
        thing = getattr(thing, part)
    return True


def row_faults(row: Row, functions: dict[str, str]) -> list[str]:
    faults = []
    if row.name not in functions:
        faults.append(f"{row.name}: libevent has no such name")
    elif functions[row.name] != row.header:
        faults.append(f"{row.name}: stands under {row.header}, not {functions[row.name]}")
    if not row.targets and not row.note:
        faults.append(f"{row.name}: no name and no reason")
    faults += [f"{row.name}: {target} is dead" for target in row.targets if not exists(target)]
    return faults


def page_faults(page: Page, functions: dict[str, str]) -> list[str]:
    """Return what is wrong with the page, one text for each fault."""
    faults = [f"not a row: {line}" for line in page.malformed]
    for row in page.rows:
        faults += row_faults(row, functions)
    names = [row.name for row in page.rows]
    faults += [f"{name}: has two rows" for name in sorted(set(names)) if names.count(name) > 1]
    unknown = page.complete - set(functions.values())
    faults += [f"{header}: no such header" for header in sorted(unknown)]
    missing = [name for name, header in functions.items() if header in page.complete - unknown]
    faults += [f"{name}: has no row" for name in missing if name not in names]
    return faults


@pytest.fixture(scope="module")
def functions() -> dict[str, str]:
    return parse_functions((ROOT / "tests" / "libevent_functions.txt").read_text("utf-8"))


@pytest.fixture(scope="module")
def functions_1_4() -> dict[str, str]:
    return parse_functions((ROOT / "tests" / "libevent14_functions.txt").read_text("utf-8"))


@pytest.fixture(scope="module")
def page() -> Page:
    return parse_page((ROOT / "docs" / "libevent-map.md").read_text("utf-8"))


def test_the_map_is_right(page: Page, functions: dict[str, str]) -> None:
    assert page_faults(page, functions) == []


def test_the_map_says_what_is_complete(page: Page) -> None:
    assert page.complete >= {"util.h", "buffer.h", "bufferevent_ssl.h", "event_compat.h"}


def test_every_name_of_libevent_1_4_has_a_row(page: Page, functions_1_4: dict[str, str]) -> None:
    rows = {row.name for row in page.rows}
    assert [name for name in functions_1_4 if name not in rows] == []
    assert set(functions_1_4.values()) == {"event.h", "evdns.h", "evhttp.h", "evrpc.h", "evutil.h"}


def test_the_map_has_the_main_jobs(page: Page) -> None:
    """That the tables are read at all, each of them."""
    names = {row.name for row in page.rows}
    assert names >= {
        "event_base_dispatch",
        "evutil_socketpair",
        "evconnlistener_new_bind",
        "evbuffer_add",
        "bufferevent_socket_connect_hostname",
        "evhttp_set_gencb",
        "evdns_getaddrinfo",
        "evrpc_make_request",
    }


FUNCTIONS = {"event_new": "event.h", "event_add": "event.h", "evutil_socketpair": "util.h"}
GOOD_ROWS = """
Complete: event.h

## event.h

| libevent | evsvc | note |
| --- | --- | --- |
| `event_new` | `evsvc.core.Event`, `evsvc.core.EventBase.timer` | |
| `event_add` | - | a reason |
"""


def test_a_good_page_has_no_faults() -> None:
    assert page_faults(parse_page(GOOD_ROWS), FUNCTIONS) == []


@pytest.mark.parametrize(
    ("good", "bad", "fault"),
    [
        ("core.Event`", "core.Evemt`", "event_new: evsvc.core.Evemt is dead"),
        ("EventBase.timer", "EventBase.tiner", "event_new: evsvc.core.EventBase.tiner is dead"),
        ("evsvc.core.Event`", "os.path`", "event_new: os.path is dead"),
        ("`event_add`", "`event_odd`", "event_odd: libevent has no such name"),
        ("| `event_add` | - | a reason |\n", "", "event_add: has no row"),
        ("a reason ", "", "event_add: no name and no reason"),
        ("event_add", "event_new", "event_new: has two rows"),
        ("event_add", "evutil_socketpair", "evutil_socketpair: stands under event.h, not util.h"),
        ("Complete: event.h", "Complete: event.h, evnt.h", "evnt.h: no such header"),
        ("| - | a reason |", "| none | a reason |", "not a row: | `event_add` | none | a reason |"),
    ],
)
def test_a_fault_is_found(good: str, bad: str, fault: str) -> None:
    assert GOOD_ROWS.count(good) == 1
    assert fault in page_faults(parse_page(GOOD_ROWS.replace(good, bad)), FUNCTIONS)


def test_a_name_listed_twice_is_found() -> None:
    with pytest.raises(AssertionError, match="twice"):
        parse_functions("event_new event.h\nevent_new util.h\n")
