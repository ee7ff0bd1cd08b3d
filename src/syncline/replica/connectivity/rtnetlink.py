"""Reading Linux's network state over rtnetlink (man 7 rtnetlink): dumps of links, addresses and default routes.

Pure parsing and one blocking dump; no rights are needed.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

NETLINK_ROUTE = 0
GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE."""

NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLM_F_DUMP_INTR = 0x10

IFF_UP, IFF_LOOPBACK, IFF_RUNNING = 0x1, 0x8, 0x40
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_UNUSABLE = 0x40 | 0x08
"""TENTATIVE: not yet checked for duplicates; DADFAILED: somebody else has it."""
RTA_GATEWAY, RTA_OIF = 5, 4
RT_TABLE_MAIN, RTN_UNICAST = 254, 1
RT_SCOPE_LINK = 253

DUMP_SECONDS_MAX = 2.0
_HEADER = struct.Struct("=IHHII")


class InterruptedDumpError(OSError):
    """Things changed while they were read."""


@dataclass(frozen=True, slots=True)
class NetworkState:
    """`addresses`: (interface, address) that reach beyond this machine and its cable; `routes`: (interface, gateway)
    of the default routes."""

    addresses: frozenset[tuple[int, str]] = frozenset()
    routes: frozenset[tuple[int, str]] = frozenset()

    @property
    def is_online(self) -> bool:
        return bool(self.addresses)


def open_socket(groups: int = 0) -> socket.socket:
    """OSError where the system offers none."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
    try:
        opened.bind((0, groups))
    except BaseException:
        opened.close()
        raise
    return opened


def read_state() -> NetworkState:
    """How things stand now. OSError where it cannot be read."""
    with open_socket() as asking:
        asking.settimeout(DUMP_SECONDS_MAX)
        links = {link for data in _dump(asking, RTM_GETLINK, RTM_NEWLINK) if (link := usable_link(data)) is not None}
        addresses = [usable_address(data) for data in _dump(asking, RTM_GETADDR, RTM_NEWADDR)]
        routes = [default_route(data) for data in _dump(asking, RTM_GETROUTE, RTM_NEWROUTE)]
    return NetworkState(
        frozenset(each for each in addresses if each is not None and each[0] in links),
        frozenset(each for each in routes if each is not None and each[0] in links),
    )


def _dump(asking: socket.socket, request: int, wanted: int) -> Iterator[bytes]:
    """The bodies of all messages of one kind."""
    asking.send(_HEADER.pack(_HEADER.size + 16, request, NLM_F_REQUEST | NLM_F_DUMP, request, 0) + bytes(16))
    while True:
        for kind, flags, body in messages(asking.recv(1 << 17)):
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                raise OSError(-int(struct.unpack_from("=i", body)[0]), "rtnetlink refused a dump")
            if flags & NLM_F_DUMP_INTR:
                raise InterruptedDumpError("the network changed while it was read")
            if kind == wanted:
                yield body


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Kind, flags and body of each message in a datagram."""
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, flags, _, _ = _HEADER.unpack_from(data, position)
        if length < _HEADER.size:
            return
        yield kind, flags, data[position + _HEADER.size : position + length]
        position += (length + 3) & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    position = 0
    while position + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, position)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[position + 4 : position + length]
        position += (length + 3) & ~3
    return found


def usable_link(body: bytes) -> int | None:
    """The number of an interface that is up and can carry something now; none of loopback."""
    if len(body) < 16:
        return None
    index, flags = struct.unpack_from("=iI", body, 4)
    is_usable = flags & IFF_UP and flags & IFF_RUNNING and not flags & IFF_LOOPBACK
    return int(index) if is_usable else None


def usable_address(body: bytes) -> tuple[int, str] | None:
    """An address with which more can be reached than the machine itself and the other end of the cable."""
    if len(body) < 8:
        return None
    flags, scope, index = struct.unpack_from("=BBI", body, 2)
    more = attributes(body[8:])
    flags = struct.unpack("=I", more[IFA_FLAGS])[0] if len(more.get(IFA_FLAGS, b"")) == 4 else flags
    packed = more.get(IFA_LOCAL) or more.get(IFA_ADDRESS) or b""
    if scope >= RT_SCOPE_LINK or flags & IFA_F_UNUSABLE or len(packed) not in (4, 16):
        return None
    return int(index), str(ipaddress.ip_address(packed))


def default_route(body: bytes) -> tuple[int, str] | None:
    """Interface and gateway ("" for a direct one) of a default route in the main table."""
    if len(body) < 12:
        return None
    destination_bits, table, kind = body[1], body[4], body[7]
    more = attributes(body[12:])
    if destination_bits or table != RT_TABLE_MAIN or kind != RTN_UNICAST or len(more.get(RTA_OIF, b"")) != 4:
        return None
    gateway = more.get(RTA_GATEWAY, b"")
    return int(struct.unpack("=i", more[RTA_OIF])[0]), gateway.hex()
