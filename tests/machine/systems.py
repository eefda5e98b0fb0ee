"""What `/etc/os-release` says on systems that people have, as far as we read it, and facts as they are found there."""

from __future__ import annotations

from typing import Any

from keyturn.app.machine.facts import Facts, System, os_release
from keyturn.core.terms import Tier

DEBIAN_12 = """PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=debian
HOME_URL="https://www.example.org/"
"""
UBUNTU_24_04 = """PRETTY_NAME="Ubuntu 24.04.1 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
VERSION="24.04.1 LTS (Noble Numbat)"
VERSION_CODENAME=noble
ID=ubuntu
ID_LIKE=debian
"""
UBUNTU_22_04 = """PRETTY_NAME="Ubuntu 22.04.5 LTS"
NAME="Ubuntu"
VERSION_ID="22.04"
ID=ubuntu
ID_LIKE=debian
"""
MINT = """NAME="Linux Mint"
VERSION="22 (Wilma)"
ID=linuxmint
ID_LIKE="ubuntu debian"
VERSION_ID="22"
"""
FEDORA = """NAME="Fedora Linux"
VERSION="42 (Workstation Edition)"
ID=fedora
VERSION_ID=42
PRETTY_NAME="Fedora Linux 42 (Workstation Edition)"
"""
ROCKY = """NAME="Rocky Linux"
VERSION="9.4 (Blue Onyx)"
ID="rocky"
ID_LIKE="rhel centos fedora"
VERSION_ID="9.4"
"""
ARCH = """NAME="Arch Linux"
PRETTY_NAME="Arch Linux"
ID=arch
BUILD_ID=rolling
"""
SUSE = """NAME="openSUSE Tumbleweed"
ID="opensuse-tumbleweed"
ID_LIKE="opensuse suse"
VERSION_ID="20250601"
"""
ALPINE = """NAME="Alpine Linux"
ID=alpine
VERSION_ID=3.20.0
PRETTY_NAME="Alpine Linux v3.20"
"""
NIXOS = """ID=nixos
NAME=NixOS
VERSION_ID="24.11"
"""

UID_MAP = "bwrap: setting up uid map: Permission denied"
NO_NAMESPACE = "bwrap: Creating new namespace failed: Operation not permitted"
NO_PROC = "bwrap: Can't mount proc on /newroot/proc: Operation not permitted"


def system(text: str, release: str = "6.8.0-45-generic", **more: Any) -> System:
    """The Linux system that this `os-release` is of."""
    said = os_release(text)
    like = tuple(said.get("ID_LIKE", "").split())
    fields = {"id": said["ID"], "like": like, "version": said.get("VERSION_ID", ""), "systemd": True, **more}
    return System("Linux", release, name=said.get("PRETTY_NAME", said["NAME"]), **fields)


def facts(text: str = DEBIAN_12, *, here: System | None = None, **more: Any) -> Facts:
    """A machine under the superuser on which everything works, but for what is said otherwise."""
    fields: dict[str, Any] = {
        "root": True,
        "tier": Tier.T2,
        "bubblewrap": "bubblewrap 0.12.0",
        "landlock_abi": 4,
        "docker": "docker: no daemon answers at `/run/docker.sock`: no such file or directory",
        "guest": "there is no /dev/kvm",
    }
    return Facts(system=here or system(text), **{**fields, **more})
