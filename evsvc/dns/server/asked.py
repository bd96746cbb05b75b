"""The address that a datagram was sent to, so that its reply leaves from there (RFC 2181 4.1).

A socket bound to every address would answer from the one that the route prefers, and the client
would drop the reply.  Linux and macOS tell the address beside a datagram (IP_PKTINFO,
IPV6_RECVPKTINFO), and take it back beside the reply.  A socket bound to one address needs none of
it, and is not made to pay.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from typing import TypeAlias

Ancillary: TypeAlias = list[tuple[int, int, bytes]]

# Python 3.11 does not name it: <bits/in.h> and <netinet/in.h>.
_IP_PKTINFO = {"linux": 8, "darwin": 26}.get(sys.platform)
_IPV4_BYTES, _IPV6_BYTES = 12, 20  # struct in_pktinfo, in6_pktinfo
ANCILLARY_BYTES = socket.CMSG_SPACE(_IPV4_BYTES) + socket.CMSG_SPACE(_IPV6_BYTES)


def ask_to_be_told(sock: socket.socket) -> bool:
    """Have the kernel tell where datagrams were sent to, if the socket is bound to every address.

    Return True when it does.
    """
    if not ipaddress.ip_address(sock.getsockname()[0].partition("%")[0]).is_unspecified:
        return False
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    elif _IP_PKTINFO is not None:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    else:
        return False
    return True


def reply_from(told: Ancillary) -> Ancillary:
    """Return what makes a reply leave from the address that a datagram was sent to.

    Nothing for a multicast group, from which none may leave.  The interface is left to the route.
    """
    for level, kind, data in told:
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            if data[0] == 0xFF:
                return []
            return [(level, kind, data[:16] + bytes(4))]
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return [(level, kind, bytes(4) + data[4:8] + bytes(4))]
    return []
