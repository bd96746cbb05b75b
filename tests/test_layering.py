"""The arrows of the house: which module may import which, read from the source with `ast`.

rpc --> http --> core <-- dns        aio and testing may import these four,
wsgi, asgi --> http                  and the modules at evsvc/ itself may import them all
"""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

# The other rooms that a room may import. A module in no room sits above them all.
ROOMS_BELOW: dict[str, frozenset[str]] = {
    "core": frozenset(),
    "http": frozenset({"core"}),
    "dns": frozenset({"core"}),
    "rpc": frozenset({"core", "http"}),
    "wsgi": frozenset({"core", "http"}),
    "asgi": frozenset({"core", "http"}),
    "aio": frozenset({"core", "http", "dns", "rpc"}),
    "stopping": frozenset({"core"}),
    "workers": frozenset({"core", "http", "rpc", "stopping"}),
    "testing": frozenset({"core", "http", "dns", "rpc"}),
}
# The one room that may import each run-time dependency.
DEPENDENCY_ROOM = {"h11": "http", "dns": "dns", "idna": "dns", "msgpack": "rpc"}
# Extras, each for one package that nothing else of ours imports.
EXTRA_PACKAGE = {"wsproto": "evsvc.http.websocket", "pytest": "evsvc.testing.plugin"}
# What hands a message of dnspython's to a test.
ALSO_IMPORTS = {("evsvc.testing.dns", "dns")}
# The rooms that want an extra so, each with the others that may import it.
EXTRA_ROOMS: dict[str, tuple[str, ...]] = {
    "evsvc.http.websocket": (
        "evsvc.rpc.websocket",
        "evsvc.asgi.websocket",
        "evsvc.aio.websocket",
        "evsvc.testing.websocket",
    ),
    "evsvc.asgi.websocket": ("evsvc.asgi.handler",),  # does without where it is missing
    "evsvc.rpc.websocket": (),
    "evsvc.aio.websocket": (),
    "evsvc.testing.websocket": (),
    "evsvc.testing.plugin": (),
}

# The rooms and modules of core, from the bottom up; at run time each imports from below alone.
CORE_ORDER = [
    "errors",
    "checks",
    "closing",
    "flags",
    "descriptors",
    "networks",
    "thread",
    "log",
    "debug",
    "resolver",
    "backends",
    "reactor",
    "util",
    "tls_engine",
    "tls",
    "buffer",
    "bufferevent",
    "listener",
]
REACTOR_ORDER = [
    "record",
    "fork",
    "clock",
    "config",
    "evmap",
    "timers",
    "active",
    "signals",
    "registry",
    "locked",
    "finalizers",
    "event",
    "wakeup",
    "reactor",
    "inspection",
    "base",
    "watch",
]
WORKERS_ORDER = [
    "options",
    "phases",
    "roster",
    "listening",
    "messages",
    "tally",
    "systemd",
    "reloading",
    "channel",
    "metrics",
    "worker",
    "child",
    "supervisor",
]


class Import(NamedTuple):
    """One import statement's one name."""

    importer: str
    target: str  # a module of ours in full, or the name of a foreign one
    line: int
    relative: bool
    types_only: bool
    in_function: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.target}"


class ImportCollector(ast.NodeVisitor):
    """Lists the imports of one module, with what surrounds each."""

    def __init__(self, module: str, is_package: bool, known: frozenset[str]) -> None:
        self.imports: list[Import] = []
        self._module = module
        self._package = module if is_package else module.rpartition(".")[0]
        self._known = known
        self._types_only = False
        self._function_depth = 0

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._function_depth += 1
        self.generic_visit(node)
        self._function_depth -= 1

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_If(self, node: ast.If) -> None:
        outer = self._types_only
        self._types_only = outer or ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in node.body:
            self.visit(child)
        self._types_only = outer
        for child in node.orelse:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._record(alias.name, node.lineno, relative=False)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        source = node.module or ""
        if node.level:
            parents = self._package.split(".")
            base = parents[: len(parents) - node.level + 1]
            source = ".".join([*base, source] if source else base)
        for alias in node.names:
            submodule = f"{source}.{alias.name}"
            target = submodule if submodule in self._known else source
            self._record(target, node.lineno, relative=bool(node.level))

    def _record(self, target: str, line: int, *, relative: bool) -> None:
        in_function = self._function_depth > 0
        found = Import(self._module, target, line, relative, self._types_only, in_function)
        self.imports.append(found)


def room_of(module: str) -> str | None:
    """Return core, http, dns, and so on; None for a module that sits above the rooms."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS_BELOW else None


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "evsvc"


def is_within(module: str, room: str) -> bool:
    """Tell whether a module is a room, or in it."""
    return module == room or module.startswith(f"{room}.")


def is_allowed(found: Import) -> bool:
    """Tell whether the arrow is drawn in this file's head or in its two tables."""
    importer_room = room_of(found.importer)
    if is_ours(found.target):
        target_room = room_of(found.target)
        if importer_room is None or importer_room == target_room:
            return True
        return target_room in ROOMS_BELOW[importer_room]
    foreign = found.target.split(".")[0]
    if foreign in sys.stdlib_module_names:
        return True
    if foreign in EXTRA_PACKAGE:
        return is_within(found.importer, EXTRA_PACKAGE[foreign])
    if (found.importer, foreign) in ALSO_IMPORTS:
        return True
    return foreign in DEPENDENCY_ROOM and DEPENDENCY_ROOM[foreign] == importer_room


def find_cycle(imports: list[Import]) -> list[str]:
    """Return the modules of one import cycle at run time; the empty list when there is none."""
    graph: dict[str, set[str]] = {}
    for found in imports:
        if is_ours(found.target) and not found.types_only:
            graph.setdefault(found.importer, set()).add(found.target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def runs_back_up(found: Import, room: str, order: list[str]) -> bool:
    """Tell whether a module of `room`, whose parts have an order, imports one of a later part.

    Raises ValueError for a part that is not in the order.
    """
    inside = f"{room}."
    if found.types_only or not (
        found.importer.startswith(inside) and found.target.startswith(inside)
    ):
        return False
    importer, target = (
        order.index(name.removeprefix(inside).partition(".")[0])
        for name in (found.importer, found.target)
    )
    return importer < target


def collect(sources: dict[str, str], packages: frozenset[str]) -> list[Import]:
    """Return every import of the modules in `sources`, which maps a module's name to its text."""
    known = frozenset(sources)
    imports: list[Import] = []
    for module, text in sources.items():
        collector = ImportCollector(module, module in packages, known)
        collector.visit(ast.parse(text))
        imports += collector.imports
    return imports


def modules_of_tree() -> Iterator[tuple[str, bool, Path]]:
    """Yield each module under evsvc/ as its name, whether it is a package, and its file."""
    for path in sorted((ROOT / "evsvc").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        yield ".".join(parts[:-1] if is_package else parts), is_package, path


@pytest.fixture(scope="module")
def tree_imports() -> list[Import]:
    modules = list(modules_of_tree())
    packages = frozenset(name for name, is_package, _ in modules if is_package)
    return collect({name: path.read_text("utf-8") for name, _, path in modules}, packages)


def test_the_tree_is_found(tree_imports: list[Import]) -> None:
    assert any(found.importer.startswith("evsvc.core.") for found in tree_imports)


def test_every_import_follows_an_arrow(tree_imports: list[Import]) -> None:
    assert [str(found) for found in tree_imports if not is_allowed(found)] == []


def test_no_import_cycles(tree_imports: list[Import]) -> None:
    assert find_cycle(tree_imports) == []


@pytest.mark.parametrize(
    ("room", "order"),
    [
        ("evsvc.core", CORE_ORDER),
        ("evsvc.core.reactor", REACTOR_ORDER),
        ("evsvc.workers", WORKERS_ORDER),
    ],
)
def test_no_arrow_runs_back_up_in_a_room_with_an_order(
    tree_imports: list[Import], room: str, order: list[str]
) -> None:
    assert [str(found) for found in tree_imports if runs_back_up(found, room, order)] == []


def test_nothing_imports_what_users_test_with(tree_imports: list[Import]) -> None:
    testing = "evsvc.testing"
    inwards = [
        str(found)
        for found in tree_imports
        if is_within(found.target, testing) and not is_within(found.importer, testing)
    ]
    assert inwards == []


@pytest.mark.parametrize("room", EXTRA_ROOMS)
def test_nothing_else_imports_a_package_that_wants_an_extra(
    tree_imports: list[Import], room: str
) -> None:
    may = (room, *EXTRA_ROOMS[room])
    outside = [
        str(found)
        for found in tree_imports
        if is_within(found.target, room)
        and not found.types_only  # which loads nothing
        and not any(is_within(found.importer, each) for each in may)
    ]
    assert outside == []


def test_every_extra_is_wanted_by_a_room_that_is_listed() -> None:
    assert set(EXTRA_PACKAGE.values()) <= EXTRA_ROOMS.keys()


def test_no_import_stands_in_a_function(tree_imports: list[Import]) -> None:
    assert [str(found) for found in tree_imports if found.in_function] == []


def test_a_room_imports_its_own_modules_relatively(tree_imports: list[Import]) -> None:
    """`evsvc.dns` and `dns`, `rpc.codecs.msgpack` and `msgpack` share names; the dot parts them."""
    absolute = [
        str(found)
        for found in tree_imports
        if not found.relative
        and room_of(found.importer) is not None
        and room_of(found.importer) == room_of(found.target)
    ]
    assert absolute == []


KNOWN = {
    "evsvc": "",
    "evsvc.cli": "",
    "evsvc.core": "",
    "evsvc.core.base": "",
    "evsvc.core.event": "",
    "evsvc.http": "",
    "evsvc.http.server": "",
    "evsvc.dns": "",
    "evsvc.dns.message": "",
    "evsvc.rpc": "",
    "evsvc.rpc.codecs.msgpack": "",
}
KNOWN_PACKAGES = frozenset({"evsvc", "evsvc.core", "evsvc.http", "evsvc.dns", "evsvc.rpc"})


def collect_one(module: str, text: str) -> Import:
    (found,) = collect({**KNOWN, module: text}, KNOWN_PACKAGES)
    return found


@pytest.mark.parametrize(
    ("module", "text", "target"),
    [
        ("evsvc.http.server", "from ..core import EventBase", "evsvc.core"),
        ("evsvc.http.server", "from evsvc.core.base import EventBase", "evsvc.core.base"),
        ("evsvc.http", "from .server import HttpServer", "evsvc.http.server"),
        ("evsvc.dns.message", "import dns.message", "dns.message"),
        ("evsvc.rpc.codecs.msgpack", "import msgpack", "msgpack"),
        ("evsvc.rpc.codecs.msgpack", "from ...http import HttpServer", "evsvc.http"),
        ("evsvc.cli", "from . import rpc", "evsvc.rpc"),
        ("evsvc.aio.loop", "from ..rpc import RpcPool", "evsvc.rpc"),
        ("evsvc.testing.dns", "import dns.message", "dns.message"),
        ("evsvc.testing.plugin", "import pytest", "pytest"),
        ("evsvc.core.base", "import selectors", "selectors"),
    ],
)
def test_drawn_arrows_are_accepted(module: str, text: str, target: str) -> None:
    found = collect_one(module, text)
    assert found.target == target
    assert is_allowed(found)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("evsvc.core.base", "from ..http import HttpServer"),
        ("evsvc.core.base", "from .. import EventBase"),
        ("evsvc.core.base", "import evsvc.cli"),
        ("evsvc.core", "import h11"),
        ("evsvc.http.server", "from ..dns.message import parse"),
        ("evsvc.http.server", "from .. import rpc"),
        ("evsvc.dns.message", "from evsvc.http import Headers"),
        ("evsvc.dns.message", "import h11"),
        ("evsvc.rpc.codecs.msgpack", "from ...dns import Resolver"),
        ("evsvc.cli", "import h11"),
        ("evsvc.http.server", "import requests"),
        ("evsvc.http.server", "from ..aio import EventLoop"),
        ("evsvc.aio.loop", "import h11"),
        ("evsvc.testing.http", "from ..aio import EventLoop"),
        ("evsvc.testing.http", "import pytest"),
        ("evsvc.http.server", "from ..testing import FakeClock"),
        ("evsvc.core.base", "if TYPE_CHECKING:\n    from ..dns import Resolver"),
    ],
)
def test_other_arrows_are_refused(module: str, text: str) -> None:
    assert not is_allowed(collect_one(module, text))


def test_a_cycle_is_found_but_not_one_of_types_alone() -> None:
    base = "from .event import Event"
    event = "from .base import EventBase"
    both = collect({**KNOWN, "evsvc.core.base": base, "evsvc.core.event": event}, KNOWN_PACKAGES)
    assert set(find_cycle(both)) == {"evsvc.core.base", "evsvc.core.event"}
    event = f"if TYPE_CHECKING:\n    {event}"
    typed = collect({**KNOWN, "evsvc.core.base": base, "evsvc.core.event": event}, KNOWN_PACKAGES)
    assert find_cycle(typed) == []


def test_an_import_in_a_function_is_found() -> None:
    assert collect_one("evsvc.cli", "def main():\n    import socket").in_function
    assert collect_one("evsvc.cli", "async def main():\n    import socket").in_function
    assert not collect_one("evsvc.cli", "import socket").in_function


@pytest.mark.parametrize(
    ("text", "is_back_up"),
    [
        ("from .base import EventBase", True),
        ("from . import base", True),
        ("from .record import EventRecord", False),
        ("from ..flags import READ", False),
        ("if TYPE_CHECKING:\n    from .base import EventBase", False),
    ],
)
def test_an_arrow_that_runs_back_up_is_found(text: str, is_back_up: bool) -> None:
    room = "evsvc.core.reactor"
    parts = {f"{room}.{part}": "" for part in REACTOR_ORDER}
    sources = {room: "", "evsvc.core.flags": "", **parts, f"{room}.event": text}
    (found,) = collect(sources, frozenset({room}))
    assert runs_back_up(found, room, REACTOR_ORDER) == is_back_up


def test_a_part_of_core_without_a_place_in_the_order_is_refused() -> None:
    found = Import("evsvc.core.new", "evsvc.core.errors", 1, True, False, False)
    with pytest.raises(ValueError, match="new"):
        runs_back_up(found, "evsvc.core", CORE_ORDER)
