"""What makes a reply hard to forge: ids, ports, case, and what is not believed."""

from __future__ import annotations

import socket

import pytest

from evsvc.dns import DNS_ERR_NONE


def test_queries_have_random_ids_ports_and_case(
    nameserver, make_resolver, answer_a, results
) -> None:
    server = nameserver(answer_a())
    resolver = make_resolver(server)
    for index in range(32):
        resolver.resolve_ipv4(f"abcdefghijklmnopqrstuvwxyz.x{index}.example.com", 0, results)
    results.wait(32)
    assert len({packet[:2] for packet in server.packets}) == 32
    assert len({port for _, port in server.sources}) > 24
    assert all(port >= 1024 for _, port in server.sources)
    assert len({packet[12:40] for packet in server.packets}) == 32


def test_the_case_of_a_name_can_be_left_alone(nameserver, make_resolver, answer_a, results) -> None:
    server = nameserver(answer_a())
    make_resolver(server, randomize_case=False).resolve_ipv4("Host.Example.com", 0, results)
    results.wait()
    assert b"\4Host\7Example\3com\0" in server.packets[0]


def lower_name(packet: bytes) -> bytes:
    return packet[:12] + packet[12:].lower()


def test_a_server_that_changes_letters_is_asked_again_in_plain_ones_and_remembered(
    nameserver, make_resolver, answer_a, results
) -> None:
    server = nameserver(lambda packet: answer_a()(lower_name(packet)))
    resolver = make_resolver(server)
    for expected in (1, 2):
        resolver.resolve_ipv4("abcdefghijklmnopqrstuvwxyz.example.com", 0, results)
        results.wait(expected)
    assert [result[0] for result in results] == [DNS_ERR_NONE] * 2
    assert len(server.packets) == 3  # it has no TCP; then it is remembered
    assert server.packets[0][:2] != server.packets[1][:2]
    assert server.sources[0] != server.sources[1]
    plain = b"\x1aabcdefghijklmnopqrstuvwxyz\7example\3com\0"
    assert [plain in packet for packet in server.packets] == [False, True, True]


def test_a_reply_in_other_letters_is_not_believed_and_the_question_goes_over_tcp(
    nameserver, make_server, make_resolver, answer_a, results
) -> None:
    def over_tcp(request, arg) -> None:
        request.add_a_reply(request.questions[0].name, ["10.0.0.1"], 60)
        request.respond(0)

    forged = answer_a(address="6.6.6.6")
    forger = nameserver(lambda packet: forged(lower_name(packet)), "127.0.0.77")
    make_server(over_tcp).bind_tcp(*forger.address)
    resolver = make_resolver(forger)
    for expected in (1, 2):
        resolver.resolve_ipv4("abcdefghijklmnopqrstuvwxyz.example.com", 0, results)
        results.wait(expected)
    assert [result[4] for result in results] == [["10.0.0.1"]] * 2
    assert len(forger.packets) == 2  # what was forged is not held against the nameserver


def wrong_id(packet: bytes) -> bytes:
    return bytes([packet[0] ^ 0x55]) + packet[1:]


def wrong_name(packet: bytes) -> bytes:
    return packet[:13] + bytes([packet[13] ^ 0x01]) + packet[14:]


def wrong_type(packet: bytes) -> bytes:
    at = packet.index(b"\0\0\1\0\1", 12) + 1
    return packet[:at] + b"\0\x1c" + packet[at + 2 :]


def no_qr(packet: bytes) -> bytes:
    return packet[:2] + bytes([packet[2] & 0x7F]) + packet[3:]


def other_opcode(packet: bytes) -> bytes:
    return packet[:2] + bytes([packet[2] | 0x10]) + packet[3:]


def two_questions(packet: bytes) -> bytes:
    return packet[:4] + b"\0\2" + packet[6:]


def too_short(packet: bytes) -> bytes:
    return packet[:11]


@pytest.mark.parametrize(
    "spoil", [wrong_id, wrong_name, wrong_type, no_qr, other_opcode, two_questions, too_short]
)
def test_a_wrong_packet_is_ignored_and_the_right_one_still_awaited(
    nameserver, make_resolver, answer_a, results, spoil
) -> None:
    good = answer_a()
    forged = answer_a(address="6.6.6.6")
    server = nameserver(lambda packet: [spoil(forged(packet)), good(packet)])
    make_resolver(server).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][4] == ["192.168.11.11"]
    assert len(server.packets) == 1


def test_a_packet_from_another_port_is_ignored(
    nameserver, make_resolver, answer_a, results
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))

        def script(packet: bytes) -> bytes:
            forged = answer_a(address="6.6.6.6")(packet)
            stranger.sendto(forged, server.sources[-1])
            return answer_a()(packet)

        server = nameserver(script)
        make_resolver(server).resolve_ipv4("host.example.com", 0, results)
        results.wait()
    assert results[0][4] == ["192.168.11.11"]
