"""Who may look."""

from __future__ import annotations

import pytest

from evsvc.core import ArgumentError, EventBase
from evsvc.http import TrustedProxies
from evsvc.inspector import Inspector, InspectorOptions
from tests.inspector.conftest import Site


@pytest.fixture(autouse=True)
def inspector(base: EventBase, site: Site):
    with Inspector(base) as made:
        made.mount(site.server)
        yield made


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8:80", "[::1]:8080", "[::1]"])
def test_this_machine_is_let_in(site: Site, host: str) -> None:
    assert site.get("/_evsvc/state", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host", ["evil.test", "localhost.evil.test", "10.0.0.1", "127.0.0.1.nip.io"]
)
def test_a_name_that_points_here_is_not_this_machine(site: Site, host: str) -> None:
    """A page of another site could read all by DNS rebinding."""
    assert site.get("/_evsvc/state", headers={"Host": host}).status == 403


@pytest.mark.parametrize("field", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"])
def test_what_a_proxy_passes_on_is_not_from_this_machine(site: Site, field: str) -> None:
    value = {"Forwarded": "for=192.0.2.1", "Via": "1.1 proxy"}.get(field, "192.0.2.1")
    assert site.get("/_evsvc/state", headers={field: value}).status == 403


@pytest.mark.parametrize(("address", "status"), [("192.0.2.9", 403), ("198.51.100.1", 200)])
def test_the_client_behind_a_trusted_proxy_counts(
    base: EventBase, site: Site, inspector: Inspector, address: str, status: int
) -> None:
    inspector.close()
    site.server.set_trusted_proxies(TrustedProxies(["127.0.0.1"]))
    options = InspectorOptions(networks=("198.51.100.0/24",), token="t")
    with Inspector(base, options) as other:
        other.mount(site.server)
        fields = {"X-Forwarded-For": address, "Authorization": "Bearer t"}
        assert site.get("/_evsvc/state", headers=fields).status == status
        fields["X-Forwarded-For"] = "unknown"
        assert site.get("/_evsvc/state", headers=fields).status == 403


def test_others_want_a_token() -> None:
    with pytest.raises(ArgumentError, match="token"):
        InspectorOptions(networks=("0.0.0.0/0",))
    with pytest.raises(ArgumentError, match="empty"):
        InspectorOptions(token="")
    with pytest.raises(ArgumentError, match=r"network.*nonsense"):
        InspectorOptions(networks=("nonsense",))
    assert InspectorOptions(networks=("0.0.0.0/0",), token="t").token == "t"
