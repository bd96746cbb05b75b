"""No socket, no port, no waiting: half a minute of baking passes in a millisecond."""

import dns.rcode
import pytest
from app import SLOW_S, Order, PlaceOrder, Receipt

from evsvc.rpc import RemoteError, RpcErrorCode


def test_the_menu_has_prices(http_client):
    response = http_client.get("/menu")
    assert response.status == 200
    assert response.text() == "cake 4.20\ntea 2.50\n"


def test_another_method_is_refused(http_client):
    assert http_client.post("/menu").status == 405


def test_a_cake_takes_its_time(http_client, event_base):
    started = event_base.now
    assert http_client.post("/bake").status == 201
    assert event_base.now - started == SLOW_S


def test_an_order_has_a_price(rpc_client):
    assert rpc_client.call(PlaceOrder, Order("tea", 2)) == Receipt(500)


def test_what_there_is_not_cannot_be_ordered(rpc_client):
    with pytest.raises(RemoteError) as error:
        rpc_client.call(PlaceOrder, Order("coffee", 1))
    assert error.value.code == RpcErrorCode.NOT_FOUND


def test_the_shop_has_an_address(dns_client):
    (found,) = dns_client.ask("shop.example", "A").answer
    assert found.to_text() == "shop.example. 300 IN A 192.0.2.80"


def test_no_other_name_is_known(dns_client):
    assert dns_client.ask("bank.example").rcode() == dns.rcode.NXDOMAIN
