"""The fixtures of evsvc, and the shop on its server."""

import pytest
from app import Shop

pytest_plugins = ["evsvc.testing.plugin"]


@pytest.fixture(autouse=True)
def shop(http_server):
    """The service under test, on the server that `http_client` and `rpc_client` ask."""
    return Shop(http_server)
