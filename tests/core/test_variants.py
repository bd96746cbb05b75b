"""Over what a test runs: what a backend can change, over every backend, and the rest over one."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evsvc.core import supported_methods
from tests.core.conftest import CHANGELIST, LOCKED, pytest_generate_tests

HERE = Path(__file__).parent

MARK = "every_backend"

# What stands right on the backend: the loop, what it waits for, what wakes it, what reads and
# writes sockets.
SUBJECTS = (
    "base_loop",
    "bufferevent",
    "bufferevent_callbacks",
    "bufferevent_descriptors",
    "bufferevent_files",
    "bufferevent_lifetime",
    "bufferevent_watermarks",
    "closure_rules",
    "event_descriptors",
    "event_timeouts",
    "events",
    "listener",
    "loop_order",
    "reinit",
    "signals",
    "threads",
    "timers",
    "wakeup",
    "watch",
)

# What asks a base for these has a branch for some backends only.
TELLING = ("method", "features")


def is_marked(body: list[Any]) -> bool:
    """Return True when a module's `pytestmark` or a function's decorators have the mark."""
    return any(MARK in ast.unparse(node) for node in body)


def unmarked_tests(source: str) -> list[ast.FunctionDef]:
    """Return the tests of a module that run over the best backend alone."""
    tree = ast.parse(source)
    if is_marked([node for node in tree.body if isinstance(node, ast.Assign)]):
        return []
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    tests = [node for node in functions if node.name.startswith("test_")]
    return [test for test in tests if not is_marked(test.decorator_list)]


def asks(test: ast.FunctionDef) -> bool:
    """Return True when a test asks a base that it was given what the backend is or can do."""
    given = [arg.arg for arg in test.args.args if ast.unparse(arg.annotation or arg) == "EventBase"]
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in TELLING
        and isinstance(node.value, ast.Name)
        and node.value.id in given
        for node in ast.walk(test)
    )


@pytest.mark.parametrize("subject", SUBJECTS)
def test_what_stands_on_a_backend_runs_over_every_one(subject: str) -> None:
    unmarked = unmarked_tests((HERE / f"test_{subject}.py").read_text("utf-8"))
    assert [test.name for test in unmarked] == []


def test_what_asks_for_the_backend_runs_over_every_one() -> None:
    found = [
        f"{path.name}: {test.name}"
        for path in HERE.glob("test_*.py")
        for test in unmarked_tests(path.read_text("utf-8"))
        if asks(test)
    ]
    assert found == []


def test_what_asks_for_the_backend_is_found() -> None:
    source = """
def test_one(base: EventBase): assert base.features
@pytest.mark.every_backend
def test_two(base: EventBase): assert base.features
def test_three(fake_base: EventBase): assert fake_base.method == "poll"
def test_four(config):
    with EventBase(config) as base: assert base.method
"""
    assert [test.name for test in unmarked_tests(source) if asks(test)] == [
        "test_one",
        "test_three",
    ]
    assert unmarked_tests(f"pytestmark = pytest.mark.every_backend{source}") == []


@pytest.mark.parametrize("marked", [False, True])
def test_the_mark_is_what_decides(marked: bool) -> None:
    made: list[tuple[str, list[str]]] = []
    test = SimpleNamespace(
        fixturenames=["base", "method"],
        definition=SimpleNamespace(get_closest_marker={MARK: True}.get if marked else {}.get),
        parametrize=lambda name, values, indirect: made.append((name, values)),
    )
    pytest_generate_tests(test)  # type: ignore[arg-type]  # as much of one as it needs
    methods = supported_methods()
    if not marked:
        expected = [methods[0], LOCKED]
    else:
        expected = [*methods, *([CHANGELIST] if "epoll" in methods else []), LOCKED]
    assert made == [("method", expected)]
    test.fixturenames = ["pair"]
    pytest_generate_tests(test)  # type: ignore[arg-type]
    assert len(made) == 1
