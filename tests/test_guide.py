"""What docs/guide.md holds itself to; tests/test_docs.py runs its programs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from evsvc.dns import DNS_ERR_NONE, DNS_ERR_NOTEXIST, EVDNS_TYPE_A, EVDNS_TYPE_AAAA

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "guide.md").read_text("utf-8")
PROGRAM = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = [
    (section.partition("\n")[0], *found.groups())
    for section in GUIDE.split("\n## ")[1:]
    if (found := PROGRAM.search(section))
]


def test_the_guide_has_a_program_in_every_section_and_what_it_prints_below() -> None:
    titles = [title for title, _, _ in PROGRAMS]
    assert titles == re.findall(r"^## (.*)$", GUIDE, re.MULTILINE)
    assert len(titles) == GUIDE.count("```python") == GUIDE.count("```text")


def test_the_guide_uses_names_where_there_are_names() -> None:
    """A flag or a code written as a number tells its reader nothing."""
    calls = r"\b(?:loop|respond|parse_query|set_flags|active|enable|disable)\(\d"
    assert re.findall(calls, GUIDE) == []


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("service.example", EVDNS_TYPE_A, DNS_ERR_NONE),
        ("SeRvIcE.eXaMpLe", EVDNS_TYPE_A, DNS_ERR_NONE),
        ("service.example", EVDNS_TYPE_AAAA, DNS_ERR_NONE),  # it exists, with no such record
        ("nowhere.example", EVDNS_TYPE_A, DNS_ERR_NOTEXIST),
    ],
)
def test_the_name_server_that_users_copy_denies_no_name_of_its_own(
    name: str, kind: int, code: int
) -> None:
    (program,) = (code for title, code, _ in PROGRAMS if title.startswith("DNS"))
    names: dict[str, Any] = {}
    exec(program.partition("server = DnsServer")[0], names)
    request = Mock(questions=[Mock(type=kind)])
    request.questions[0].name = name
    names["on_query"](request, None)
    names["base"].close()
    request.respond.assert_called_once_with(code)
    answered = name.lower() == "service.example" and kind == EVDNS_TYPE_A
    assert request.add_a_reply.called is answered
