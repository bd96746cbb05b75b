"""The fixtures of evsvc, and the shop on its servers."""

import pytest
from app import Shop, tell_address

pytest_plugins = ["evsvc.testing.plugin"]


@pytest.fixture(autouse=True)
def shop(http_server):
    """The service under test, on the server that `http_client` and `rpc_client` ask."""
    return Shop(http_server)


@pytest.fixture
def dns_handler():
    """What `dns_client` asks."""
    return tell_address
