"""What `evsvc` and its packages export: it exists, once, documented, and loads no more."""

from __future__ import annotations

import enum
import importlib
import inspect
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import evsvc
from evsvc.core.flags import BevEvent, EventFlag, LoopFlag

ROOT = Path(__file__).resolve().parent.parent

# evsvc imports the first three; the last is dnspython's own, loaded where it is installed.
LOADED_BY_IMPORT = frozenset({"evsvc", "h11", "dns", "msgpack", "idna"})

LIST_LOADED = """
import json, sys
before = set(sys.modules)
import evsvc
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""


def public_packages() -> list[ModuleType]:
    """Import and return evsvc and each package directly below it, but for the command line's."""
    package = ROOT / "evsvc"
    names = ["evsvc"] if (package / "__init__.py").exists() else []
    folders = [path.parent.name for path in sorted(package.glob("*/__init__.py"))]
    names += [f"evsvc.{folder}" for folder in folders if folder != "commands"]
    return [importlib.import_module(name) for name in names]


def names_of(package: ModuleType) -> list[str]:
    """Return the package's `__all__`; nothing where it is not written yet."""
    return list(getattr(package, "__all__", ()))


def exports() -> Iterator[tuple[str, object]]:
    """Yield each exported name in full, with its object; None where there is none."""
    for package in public_packages():
        for name in names_of(package):
            yield f"{package.__name__}.{name}", getattr(package, name, None)


def is_documented(thing: object) -> bool:
    """Tell whether a class or function has its own docstring, not one that a decorator made."""
    text = thing.__doc__
    return bool(text) and not str(text).startswith(f"{getattr(thing, '__name__', '')}(")


def public_members(owner: type) -> Iterator[tuple[str, object]]:
    """Yield the methods and properties that the class itself defines and does not hide."""
    for name, member in vars(owner).items():
        if not name.startswith("_") and isinstance(
            member, property | staticmethod | classmethod | FunctionType
        ):
            yield name, getattr(owner, name)


def test_every_package_says_what_it_exports() -> None:
    assert [package.__name__ for package in public_packages() if not names_of(package)] == []


def test_every_exported_name_exists() -> None:
    lost = [
        f"{package.__name__}.{name}"
        for package in public_packages()
        for name in names_of(package)
        if not hasattr(package, name)
    ]
    assert lost == []


def test_every_name_is_exported_once() -> None:
    for package in public_packages():
        repeated = [name for name, times in Counter(names_of(package)).items() if times > 1]
        assert repeated == [], package.__name__


def test_every_exported_class_and_function_is_documented() -> None:
    bare = [
        name
        for name, thing in exports()
        if (inspect.isclass(thing) or inspect.isroutine(thing)) and not is_documented(thing)
    ]
    assert bare == []


def test_every_public_method_of_an_exported_class_is_documented() -> None:
    bare = {
        f"{member_owner.__module__}.{member_owner.__qualname__}.{name}"
        for _, thing in exports()
        if inspect.isclass(thing)
        for member_owner in thing.__mro__
        if member_owner.__module__.startswith("evsvc")
        for name, member in public_members(member_owner)
        if not inspect.getdoc(member)
    }
    assert sorted(bare) == []


def test_import_loads_nothing_but_the_run_time_dependencies() -> None:
    command = [sys.executable, "-c", LIST_LOADED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "evsvc" in loaded
    # msgpack is compiled by Cython, whose run-time modules carry its version in their names.
    ours = {name for name in loaded if not name.lstrip("_").startswith("cython")}
    assert ours - sys.stdlib_module_names - LOADED_BY_IMPORT == set()


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "evsvc" / "py.typed").is_file()


@pytest.mark.parametrize("family", [EventFlag, LoopFlag, BevEvent])
def test_the_top_has_families_of_flags_whole(family: type[enum.IntFlag]) -> None:
    assert {flag.name for flag in family} <= set(evsvc.__all__)
