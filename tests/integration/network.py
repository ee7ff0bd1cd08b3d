"""A network of its own for a test: namespaces, a cable between two of them, and what plugs it in and out.

Plain rtnetlink requests, so that no program has to be installed. Needs the right to make namespaces: as root, or in a
user namespace (`unshare --user --map-root-user --net`).
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

from syncline.replica.connectivity.rtnetlink import messages, open_socket

CLONE_NEWNET = 0x40000000
RTM_NEWLINK, RTM_SETLINK, RTM_NEWADDR = 16, 19, 20
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL = 0x1, 0x4, 0x400, 0x200
IFLA_IFNAME, IFLA_LINKINFO, IFLA_NET_NS_PID = 3, 18, 19
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
IFF_UP = 0x1
NLMSG_ERROR = 2


def enter_network() -> None:
    """This process gets an empty network. PermissionError where that is not allowed."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise PermissionError(number, f"no namespace: {os.strerror(number)}")
    set_link("lo", up=True)


def lay_cable(near: str, far: str, far_process: int) -> None:
    """A veth pair: one end here, the other in the network of that process."""
    peer = _link_header() + _attribute(IFLA_IFNAME, _text(far)) + _attribute(IFLA_NET_NS_PID, _number(far_process))
    kind = _attribute(IFLA_INFO_KIND, _text("veth"))
    info = kind + _attribute(IFLA_INFO_DATA, _attribute(VETH_INFO_PEER, peer))
    body = _link_header() + _attribute(IFLA_IFNAME, _text(near)) + _attribute(IFLA_LINKINFO, info)
    _request(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL)


def set_link(name: str, *, up: bool) -> None:
    _request(RTM_SETLINK, _link_header(socket.if_nametoindex(name), IFF_UP if up else 0, IFF_UP))


def add_address(name: str, address: str, bits: int = 24) -> None:
    packed = socket.inet_aton(address)
    header = struct.pack("=BBBBI", socket.AF_INET, bits, 0, 0, socket.if_nametoindex(name))
    _request(
        RTM_NEWADDR,
        header + _attribute(IFA_LOCAL, packed) + _attribute(IFA_ADDRESS, packed),
        NLM_F_CREATE | NLM_F_EXCL,
    )


def _request(kind: int, body: bytes, flags: int = 0) -> None:
    """OSError if the kernel refuses."""
    with open_socket() as asking:
        asking.settimeout(5)
        asking.send(struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_ACK | flags, 1, 0) + body)
        for answer, _, content in messages(asking.recv(1 << 16)):
            (number,) = struct.unpack_from("=i", content) if answer == NLMSG_ERROR else (0,)
            if number:
                raise OSError(-number, os.strerror(-number))


def _link_header(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, change)


def _attribute(kind: int, content: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)


def _text(text: str) -> bytes:
    return text.encode() + b"\0"


def _number(number: int) -> bytes:
    return struct.pack("=I", number)
