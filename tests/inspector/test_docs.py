"""The programs of docs/inspector.md, one after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from evsvc.core import EVLOOP_ONCE
from evsvc.http import HttpClient

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "inspector.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_programs_run_and_the_page_is_there() -> None:
    names: dict[str, Any] = {}
    assert len(BLOCKS) == 3
    for block in BLOCKS:
        exec(block.replace("8080)", "0)").replace("base.dispatch()\n", ""), names)
    base = names["base"]
    statuses: list[int] = []
    with HttpClient(base) as client:
        port = names["server"].bound_sockets[0].port
        url = f"http://127.0.0.1:{port}/_evsvc/"
        client.get(url, lambda response, arg: statuses.append(response.status))
        while not statuses:
            base.loop(EVLOOP_ONCE)
    for name in ("watchdog", "inspector", "server", "base"):
        names[name].close()
    assert statuses == [200]
