"""What to do about what a machine lacks, as commands for the system that it runs. Pure: facts in, remedies out.

One table of rows: when it applies, what is wrong and why that matters, and the commands. A command is for people to
read before they run it; nothing here ever runs one. Bubblewrap is always the distribution's own, because security
profiles name it by its path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from keyturn.app.machine.facts import APPARMOR_ON, CLONE_OFF, NAMESPACES_MAX, Facts, System

OLDEST: Final = (0, 8)
"""The first bubblewrap with `--disable-userns`, without which a subject could make namespaces of its own."""

FOLLOWS_LINKS: Final = (0, 12)
"""The first bubblewrap with the mend of GHSA-pxhw-h44j-8pfx."""

CGROUP_KILL: Final = (5, 14)
LANDLOCK: Final = (5, 13)

FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "debian": ("debian", "ubuntu"),
    "fedora": ("fedora", "rhel", "centos"),
    "arch": ("arch",),
    "suse": ("suse", "opensuse", "opensuse-tumbleweed", "opensuse-leap"),
    "alpine": ("alpine",),
}

INSTALL: Final[Mapping[str, tuple[str, ...]]] = {
    "debian": ("sudo apt install bubblewrap",),
    "fedora": ("sudo dnf install bubblewrap",),
    "arch": ("sudo pacman -S bubblewrap",),
    "suse": ("sudo zypper install bubblewrap",),
    "alpine": ("sudo apk add bubblewrap",),
}

PROFILE: Final = "bwrap-userns-restrict"
APPARMOR: Final = (
    "sudo apt install apparmor-profiles",
    f"sudo ln -s /usr/share/apparmor/extra-profiles/{PROFILE} /etc/apparmor.d/{PROFILE}",
    f"sudo apparmor_parser -r /etc/apparmor.d/{PROFILE}",
)

CONTAINER: Final = "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined IMAGE"
DELEGATE: Final = "systemd-run --user --scope -p Delegate=yes keyturn run"
CONTROLLERS: Final = (
    "sudo mkdir -p /etc/systemd/system/user@.service.d",
    "printf '[Service]\\nDelegate=cpu memory pids\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf",
    "sudo systemctl daemon-reload   # and log in again",
)
SUPERUSER: Final = 'sudo "$(command -v keyturn)" run'


@dataclass(frozen=True, slots=True)
class Remedy:
    """Something that this machine lacks: what, why it matters, the commands in order, and a word beside them.

    `blocks` says that the sandbox cannot do its work without; the others are what one would wish for.
    """

    what: str
    why: str
    commands: tuple[str, ...]
    note: str = ""
    blocks: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: when it applies, and the remedy then."""

    applies: Callable[[Facts], bool]
    remedy: Callable[[Facts], Remedy]


def remedies(facts: Facts) -> tuple[Remedy, ...]:
    """Every remedy for this machine, what blocks first; off Linux the one thing that can be said."""
    if facts.system.kernel != "Linux":
        return (_elsewhere(facts.system),)
    found = [row.remedy(facts) for row in TABLE if row.applies(facts)]
    if facts.fault and not any(each.blocks for each in found):
        unasked = "nothing that was tried here explains it; please report it"
        engine = facts.fault.startswith(("the docker engine, asked to", "the cluster, asked to"))
        note = "the engine that operation.toml names must answer" if engine else unasked
        found.append(Remedy("a sandbox", facts.fault, (), note))
    return tuple(sorted(found, key=lambda each: not each.blocks))


def family(system: System) -> str:
    """The family of distributions whose commands fit; empty for one that we do not know."""
    for name in (system.id, *system.like):
        for known, members in FAMILIES.items():
            if name in members:
                return known
    return ""


def _elsewhere(system: System) -> Remedy:
    if system.kernel == "Darwin":
        why = "macOS has no process namespaces and no cgroups: Seatbelt hides files, and can prove no halt"
        return Remedy(
            "Linux", why, (), "run Keyturn inside a Linux virtual machine; nothing is governed on macOS itself"
        )
    if system.kernel == "Windows":
        why = "the sandbox is made of Linux namespaces, cgroups and system call filters"
        return Remedy("Linux", why, ("wsl --install -d Ubuntu-24.04",), "then install and run Keyturn inside WSL 2")
    return Remedy("Linux", f"`{system.kernel}` has no sandbox of ours", (), "use a Linux machine or virtual machine")


# --- bubblewrap


def _no_bubblewrap(facts: Facts) -> Remedy:
    known = INSTALL.get(family(facts.system), ())
    note = "" if known else "install the package `bubblewrap` of your distribution"
    return Remedy("bubblewrap", "it builds the sandbox; without it nothing is launched", known, note)


def _too_old(facts: Facts) -> Remedy:
    why = f"`{facts.bubblewrap}` cannot forbid further namespaces (`--disable-userns`); 0.8.0 or later can"
    newer = {"debian": "Debian 12 and Ubuntu 24.04 have one", "fedora": "every Fedora that is still maintained has one"}
    note = f"take it from a newer release of your distribution: {newer.get(family(facts.system), 'see its packages')}"
    return Remedy("a newer bubblewrap", why, INSTALL.get(family(facts.system), ()), note)


def _setuid(facts: Facts) -> Remedy:
    why = "this bubblewrap runs as root (set-user-id), which cannot forbid further namespaces and is a risk by itself"
    return Remedy("bubblewrap without set-user-id", why, ("sudo chmod u-s /usr/bin/bwrap",))


def _follows_links(facts: Facts) -> Remedy:
    why = (
        f"`{facts.bubblewrap}` follows links while it builds a sandbox (GHSA-pxhw-h44j-8pfx, mended in 0.12.0); "
        "ours is not exposed: every mount lands on a fresh tmpfs or within the read-only runtime, never within a "
        "folder that a subject could have written"
    )
    return Remedy("bubblewrap 0.12.0", why, (), "take it when your distribution has it", blocks=False)


# --- namespaces


def _in_container(facts: Facts) -> Remedy:
    said = facts.namespaces or facts.processes
    why = f"this looks like a container ({facts.system.container}) that forbids namespaces or masks /proc: `{said}`"
    note = (
        "where you cannot say so (most hosted CI), use a runner that is a virtual machine: GitHub's ubuntu runners are"
    )
    return Remedy("a container that lets a sandbox be built", why, (CONTAINER,), note)


def _apparmor(facts: Facts) -> Remedy:
    why = f"AppArmor keeps ordinary programs from making user namespaces here: `{facts.namespaces}`"
    note = f"Ubuntu 25.04 and later load this profile by themselves. `{PROFILE}` names /usr/bin/bwrap and no other copy"
    return Remedy("user namespaces for bubblewrap", why, APPARMOR, note)


def _clone_off(facts: Facts) -> Remedy:
    commands = (
        "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        "echo kernel.unprivileged_userns_clone=1 | sudo tee /etc/sysctl.d/60-keyturn.conf",
    )
    return Remedy("user namespaces", f"they are switched off: `{facts.namespaces}`", commands)


def _none_left(facts: Facts) -> Remedy:
    commands = (
        "sudo sysctl -w user.max_user_namespaces=15000",
        "echo user.max_user_namespaces=15000 | sudo tee /etc/sysctl.d/60-keyturn.conf",
    )
    return Remedy("user namespaces", f"none may be made here: `{facts.namespaces}`", commands)


def _forbidden(facts: Facts) -> Remedy:
    said = facts.namespaces or facts.processes
    note = "the log of the kernel's security modules says which one it was"
    why = f"bubblewrap cannot make its namespaces: `{said}`"
    return Remedy("namespaces", why, ("sudo journalctl -k --grep 'apparmor|avc|userns'",), note)


def _unexplained(facts: Facts) -> bool:
    """Whether namespaces fail though no switch that we know is set against them."""
    switched = (_apparmor_on(facts), _switched_off(facts), _limited(facts))
    return bool(facts.namespaces or facts.processes) and not facts.system.container and not any(switched)


def _apparmor_on(facts: Facts) -> bool:
    return bool(facts.namespaces) and not facts.system.container and facts.sysctls.get(APPARMOR_ON) == "1"


def _switched_off(facts: Facts) -> bool:
    return bool(facts.namespaces) and not facts.system.container and facts.sysctls.get(CLONE_OFF) == "0"


def _limited(facts: Facts) -> bool:
    return bool(facts.namespaces) and not facts.system.container and facts.sysctls.get(NAMESPACES_MAX) == "0"


# --- cgroups, user, kernel


def _no_cgroup(facts: Facts) -> Remedy:
    why = "without one a halt kills through init alone, and no receipt can say STOPPED"
    if facts.kernel < CGROUP_KILL:
        note = f"this kernel ({facts.system.release}) has no cgroup.kill; 5.14 or later has"
        return Remedy("a cgroup that can be killed as a whole", why, (), note)
    if facts.system.container:
        note = "inside a container the cgroups may be the engine's: then run on the host, or on a virtual machine"
        return Remedy("a cgroup of our own", why, () if facts.root else (SUPERUSER,), note)
    if facts.system.wsl and not facts.system.systemd:
        commands = ("printf '[boot]\\nsystemd=true\\n' | sudo tee -a /etc/wsl.conf", "wsl.exe --shutdown", DELEGATE)
        return Remedy("a cgroup of our own", why, commands, "the second command from Windows; then open WSL again")
    if facts.root:
        return Remedy("a cgroup of our own", why, ("mount | grep cgroup2",), "cgroup v2 must be mounted and writable")
    return Remedy("a cgroup of our own", why, (DELEGATE,) if facts.system.systemd else (SUPERUSER,))


def _no_limits(facts: Facts) -> Remedy:
    names = " and ".join(name for name in ("memory", "pids") if name in facts.lacking)
    why = f"no cgroup limits {names}: what a subject uses is then bounded for each process only"
    if facts.root or not facts.system.systemd:
        return Remedy(f"the controller {names}", why, ("cat /sys/fs/cgroup/cgroup.controllers",), "turn it on there")
    return Remedy(f"the controller {names}", why, CONTROLLERS)


def _same_user(facts: Facts) -> Remedy:
    why = "what breaks out of bubblewrap is the governor's own user; under the superuser each has a user of its own"
    return Remedy("a host user of the subject's own", why, (SUPERUSER,), "no subject ever runs as the superuser")


def _no_landlock(facts: Facts) -> Remedy:
    why = "without it files are protected by mounts alone, and init by its owner alone"
    if facts.kernel < LANDLOCK:
        return Remedy("Landlock", why, (), f"this kernel ({facts.system.release}) has none; 5.13 or later has")
    note = "add `landlock` in front of what this prints and boot with that list, as `lsm=landlock,...`"
    return Remedy("Landlock", why, ("cat /sys/kernel/security/lsm",), note)


def _breached(facts: Facts) -> Remedy:
    why = f"the last check earned less than this machine seems to give: {facts.breached}"
    note = "run it again when the machine is quiet; what breaches then is a hole, and SECURITY.md says whom to tell"
    return Remedy("a containment check that holds", why, ("keyturn sandbox check",), note)


TABLE: Final = (
    Row(lambda f: bool(f.breached), _breached),
    Row(lambda f: not f.bubblewrap, _no_bubblewrap),
    Row(lambda f: bool(f.version) and f.version < OLDEST, _too_old),
    Row(lambda f: f.setuid, _setuid),
    Row(lambda f: bool(f.namespaces or f.processes) and bool(f.system.container), _in_container),
    Row(_apparmor_on, _apparmor),
    Row(_switched_off, _clone_off),
    Row(_limited, _none_left),
    Row(_unexplained, _forbidden),
    Row(lambda f: "cgroup" in f.lacking, _no_cgroup),
    Row(lambda f: "cgroup" not in f.lacking and bool({"memory", "pids"} & {*f.lacking}), _no_limits),
    Row(lambda f: "user" in f.lacking and not f.root, _same_user),
    Row(lambda f: not f.landlock_abi, _no_landlock),
    Row(lambda f: OLDEST <= f.version < FOLLOWS_LINKS, _follows_links),
)
"""Every remedy that we know, in the order in which people would go about it."""
