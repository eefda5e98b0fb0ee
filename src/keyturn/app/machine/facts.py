"""Facts about this machine, found out by doing: a launch is tried, a daemon asked, the answer kept as it came.

What merely lies there (a device, a program, a sysctl) is only ever a hint for the remedy, never evidence that it works.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from keyturn.core.terms import Json, Tier
from keyturn.sandbox.port import Capabilities

TRY_SECONDS = 5.0
NOBODY = 65534
CLONE_OFF = "kernel/unprivileged_userns_clone"
APPARMOR_ON = "kernel/apparmor_restrict_unprivileged_userns"
NAMESPACES_MAX = "user/max_user_namespaces"

CONTAINER_SIGNS = {"/.dockerenv": "docker", "/run/.containerenv": "podman"}
"""Files by which container engines show themselves; a hint only."""


@dataclass(frozen=True, slots=True)
class System:
    """Which system this is, as it says itself: the kernel's name and release, and the fields of `/etc/os-release`."""

    kernel: str
    release: str
    id: str = ""
    like: tuple[str, ...] = ()
    version: str = ""
    name: str = ""
    systemd: bool = False
    container: str = ""
    wsl: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What was tried here, and how it went; an empty fault means that it worked.

    `namespaces` and `processes` are what bubblewrap said when it was asked for a user namespace, and for a `/proc` of
    its own; `lacking` are the guarantees of T2 that the sandbox's own probe missed, and `fault` what kept it from being
    built at all; `breached` is what a containment check found that earned less than this.
    `sysctls` are the switches that could explain it.
    """

    system: System
    root: bool
    tier: Tier
    fault: str = ""
    lacking: tuple[str, ...] = ()
    bubblewrap: str = ""
    setuid: bool = False
    namespaces: str = ""
    processes: str = ""
    landlock_abi: int = 0
    sysctls: dict[str, str] = field(default_factory=dict)
    docker: str = ""
    gvisor: bool = False
    guest: str = ""
    breached: str = ""

    @property
    def version(self) -> tuple[int, ...]:
        """Bubblewrap's version as numbers; empty where there is none to be read."""
        return tuple(int(part) for part in re.findall(r"\d+", self.bubblewrap)[:3])

    @property
    def kernel(self) -> tuple[int, ...]:
        """The first two numbers of the kernel's release."""
        return tuple(int(part) for part in re.findall(r"\d+", self.system.release)[:2])


def system() -> System:
    """Which system this is."""
    said = os_release(_text("/etc/os-release"))
    release = platform.release()
    return System(
        kernel=platform.system(),
        release=release,
        id=said.get("ID", ""),
        like=tuple(said.get("ID_LIKE", "").split()),
        version=said.get("VERSION_ID", ""),
        name=said.get("PRETTY_NAME", ""),
        systemd=Path("/run/systemd/system").is_dir(),
        container=_container(),
        wsl="microsoft" in release.lower(),
    )


def os_release(text: str) -> dict[str, str]:
    """The fields of a file `os-release`."""
    rows = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in rows}


def _container() -> str:
    """The container that we seem to be in; empty where nothing hints at one."""
    for file, name in CONTAINER_SIGNS.items():
        if Path(file).exists():
            return name
    groups = _text("/proc/1/cgroup")
    seen = next((name for name in ("docker", "kubepods", "lxc", "containerd") if name in groups), "")
    return os.environ.get("container", "") or seen  # noqa: SIM112 - systemd and podman write it so


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def gather(seen: Capabilities) -> Facts:
    """Everything that the remedies need, given what the sandbox's own probe saw; changes nothing on this machine."""
    from keyturn.app.machine import asking

    here = system()
    program = shutil.which("bwrap", path="/usr/bin:/bin:/usr/local/bin") or ""
    docker, gvisor = asking.docker()
    return Facts(
        system=here,
        root=os.geteuid() == 0,
        tier=seen.tier,
        fault="; ".join(each.why for each in seen.missing) if seen.tier is Tier.T0 else "",
        lacking=tuple(text.partition(":")[0] for text in seen.weaker),
        bubblewrap=_said(program, "--version")[1] if program else "",
        setuid=bool(program) and bool(os.stat(program).st_mode & stat.S_ISUID),  # noqa: PTH116 - a mode, no path
        namespaces=_tried(program, "--unshare-user") if program else "",
        processes=_tried(program, "--unshare-user", "--unshare-pid", "--proc", "/proc") if program else "",
        landlock_abi=_number(seen.kernel.get("landlock_abi")) or asking.landlock(),
        sysctls={name: _text(f"/proc/sys/{name}").strip() for name in (CLONE_OFF, APPARMOR_ON, NAMESPACES_MAX)},
        docker=docker,
        gvisor=gvisor,
        guest=asking.guest(),
    )


def _number(value: Json) -> int:
    return value if isinstance(value, int) else 0


def _tried(program: str, *flags: str) -> str:
    """What bubblewrap says when it is to do this and no more, without the superuser's powers; empty if it can."""
    code, said = _said(program, *flags, "--ro-bind", "/", "/", "--", shutil.which("true") or "/bin/true", dropped=True)
    return "" if code == 0 else said or f"it ended with code {code} and said nothing"


def _said(*argv: str, dropped: bool = False) -> tuple[int, str]:
    """How a command ended, and its last words on one line."""
    nobody = NOBODY if dropped and os.geteuid() == 0 else None
    try:
        ran = subprocess.run(
            argv, capture_output=True, timeout=TRY_SECONDS, check=False, env={}, cwd="/", stdin=subprocess.DEVNULL,
            user=nobody, group=nobody, extra_groups=None if nobody is None else [],
        )  # fmt: skip  # how it runs, and as whom
    except subprocess.TimeoutExpired:
        return 1, f"nothing came within {TRY_SECONDS:.0f} seconds"
    except OSError as fault:
        return 1, f"it cannot be started: {fault.strerror}"
    lines = (ran.stdout + ran.stderr).decode(errors="replace").strip().splitlines()
    return ran.returncode, lines[-1][:300] if lines else ""


def is_linux() -> bool:
    """Whether there is anything to try at all."""
    return sys.platform == "linux"
