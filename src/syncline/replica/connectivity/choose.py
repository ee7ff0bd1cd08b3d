"""Which listener a replica gets by itself."""

from __future__ import annotations

import ipaddress
import socket
import sys
from urllib.parse import urlsplit

from syncline.replica.connectivity.port import Connectivity, NoConnectivity


def connectivity_for(url: str) -> Connectivity:
    """The system's listener, where there is one. A server on this machine needs no network: nobody listens then."""
    if sys.platform != "linux" or is_on_this_machine(url):
        return NoConnectivity()
    from syncline.replica.connectivity.linux import LinuxConnectivity

    return LinuxConnectivity()


def is_on_this_machine(url: str) -> bool:
    """By the address alone, without asking a name server: loopback in any spelling, `localhost`, this host's name."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost") or host == socket.gethostname().lower():
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    inner = getattr(address, "ipv4_mapped", None) or address
    return bool(inner.is_loopback or inner.is_unspecified)
