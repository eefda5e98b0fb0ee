# ruff: noqa: S104 - nothing is bound, only connected to
"""Talking: over the network of this machine or of others, over local sockets, shared memory and keyrings."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyturn.sandbox.suite.probes.attempt import Attempts

FAMILIES = {"inet": 2, "inet6": 10, "netlink": 16, "packet": 17, "bluetooth": 31, "alg": 38, "vsock": 40, "xdp": 44}
OUTSIDE = {"another network": "192.0.2.1", "the machine's cloud": "169.254.169.254", "itself": "127.0.0.1"}
KEYCTL_SEARCH, USER_KEYRING, PROCESS_KEYRING = 10, -4, -2


def connect(family: int, kind: int, address: str | tuple[str, int]) -> None:
    """Connect and hang up."""
    with socket.socket(family, kind) as made:
        made.settimeout(2)
        made.connect(address)


def host_loopback(tried: Attempts) -> None:
    """Connect to a port that the host listens on."""
    for name, place in {"127.0.0.1": "127.0.0.1", "any address": "0.0.0.0"}.items():
        tried.tries(name, connect, socket.AF_INET, socket.SOCK_STREAM, (place, tried.facts["port"]))


def other_networks(tried: Attempts) -> None:
    """Ask for a way to other machines: connecting a datagram socket finds one and sends nothing."""
    for name, place in OUTSIDE.items():
        tried.tries(name, connect, socket.AF_INET, socket.SOCK_DGRAM, (place, 9))
    tried.tries("IPv6", connect, socket.AF_INET6, socket.SOCK_DGRAM, ("2001:db8::1", 9))
    tried.tries("interfaces", interfaces)


def interfaces() -> None:
    """Whether there is any network interface but the loopback."""
    with open("/proc/self/net/dev", encoding="ascii") as file:  # noqa: PTH123 - importing pathlib would slow every probe
        found = {line.split(":")[0].strip() for line in file.readlines()[2:]}
    if not found - {"lo"}:
        raise OSError("none but the loopback")


def unix_sockets(tried: Attempts) -> None:
    """Connect to local sockets that the host listens on."""
    tried.tries("an abstract one", connect, socket.AF_UNIX, socket.SOCK_STREAM, "\0" + tried.facts["abstract"])
    tried.tries("one with a path", connect_in, tried.facts["folder"], "socket")
    tried.tries("through process 1", connect_in, "/proc/1/root" + tried.facts["folder"], "socket")


def shown_socket(tried: Attempts) -> None:
    """Connect to a socket in a folder that is shown read-only."""
    tried.tries("one in a shown folder", connect_in, tried.facts["public"], "socket")


def connect_in(folder: str, name: str) -> None:
    """Connect to a socket in a folder whose path may be longer than an address."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connect(socket.AF_UNIX, socket.SOCK_STREAM, f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)


def socket_families(tried: Attempts) -> None:
    """Make sockets of the families that reach past namespaces, and raw ones."""
    for name, number in FAMILIES.items():
        kind = socket.SOCK_STREAM if name in {"inet", "inet6", "vsock"} else socket.SOCK_RAW
        kind = socket.SOCK_SEQPACKET if name == "alg" else kind
        tried.tries(name, lambda family, kind: socket.socket(family, kind).close(), number, kind)
    tried.tries("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close())


def shared_memory(tried: Attempts) -> None:
    """Find a shared memory segment and a key of the host."""

    def attach() -> None:
        number = tried.call("shmget", tried.facts["segment"], 0, 0)
        tried.libc.shmat.restype = ctypes.c_void_p
        at = tried.libc.shmat(number, None, 0)
        if at in {None, ctypes.c_void_p(-1).value}:
            raise OSError(ctypes.get_errno(), "shmat")
        ctypes.memset(at, 0x4B, 1)

    tried.tries("segment", attach)
    name = tried.facts["key"].encode()
    tried.tries("key", tried.call, "keyctl", KEYCTL_SEARCH, USER_KEYRING, b"user", name, 0)
    tried.tries("adding a key", tried.call, "add_key", b"user", name, b"x", 1, PROCESS_KEYRING)


PROBES: dict[str, Callable[[Attempts], None]] = {
    "host-loopback": host_loopback,
    "other-networks": other_networks,
    "unix-sockets": unix_sockets,
    "shown-socket": shown_socket,
    "socket-families": socket_families,
    "shared-memory": shared_memory,
}
