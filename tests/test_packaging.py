"""The packages that are published: they are built, judged, and one is used with nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import evsvc

ROOT = Path(__file__).resolve().parent.parent
DEPENDENCIES = ("h11", "dns", "idna", "msgpack")

PROGRAM = """
import importlib.resources, evsvc, evsvc.inspector
from evsvc import EventBase, HttpServer
from evsvc.http import HttpClient

base = EventBase()
server = HttpServer(base)
server.set_gencb(lambda request, arg: request.send_reply(200, None, b"Thanks for the request!"))
evsvc.inspector.Inspector(base).mount(server)
port = server.bind_socket("127.0.0.1", 0).port
client = HttpClient(base)
client.get(f"http://127.0.0.1:{port}/", lambda got, arg: (print(got.text()), base.loopexit()))
base.dispatch()
print(evsvc.__file__)
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "evsvc", source / "evsvc", ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--no-isolation", cwd=source)
    (sdist,) = (source / "dist").glob("*.tar.gz")
    (wheel,) = (source / "dist").glob("*.whl")
    return sdist, wheel


def test_both_have_every_file_and_the_wheel_is_for_all(packages: tuple[Path, Path]) -> None:
    sdist, wheel = packages
    assert wheel.name.endswith("-py3-none-any.whl")
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "evsvc").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    with zipfile.ZipFile(wheel) as archive:
        assert wanted <= set(archive.namelist())
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert wanted | {"README.md", "LICENSE", "pyproject.toml"} <= names


def test_the_index_would_take_them(packages: tuple[Path, Path]) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, packages)]
    assert run(*command, cwd=packages[0].parent).count("PASSED") == 2


def test_the_wheel_alone_serves(packages: tuple[Path, Path], tmp_path: Path) -> None:
    """With what it says that it needs, and nothing of this checkout."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    run(*pip, "--no-deps", packages[1], cwd=tmp_path)
    ours = Path(sysconfig.get_path("purelib"))
    theirs = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    for name in DEPENDENCIES:
        (theirs / name).symlink_to(ours / name)
    text, where = run(python, "-W", "error", "-c", PROGRAM, cwd=tmp_path).splitlines()
    assert text == "Thanks for the request!"
    assert Path(where).is_relative_to(theirs)
    command = tmp_path / "venv" / "bin" / "evsvc"
    assert run(command, "--version", cwd=tmp_path) == f"evsvc {evsvc.__version__}\n"
