"""What must hold inside a parked container, compared with what our init saw there before any subject had begun.

Pure. The engine's own word is compared elsewhere; a hook that changed the order behind our back would have to deceive
both.
"""

from __future__ import annotations

from collections.abc import Mapping

from keyturn.core.terms import Json
from keyturn.sandbox.engines.port import Order

CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
BOUNDS_OF_GVISOR = frozenset({"noexec"})
"""The options of a mount that gVisor shows; it has no devices, and nothing in it gains privileges."""

SECCOMP_FILTER = "2"
NOT_OF_THE_HOST = {"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "tmpfs", "devtmpfs", "ramfs"}
FILES_OF_THE_ENGINE = {"/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/dev/termination-log"}
"""What every engine binds into its containers: a few lines of its own, which nobody here can write to."""

KERNEL_FOLDERS = ("/proc", "/sys", "/dev")


def compare(
    order: Order, seen: Mapping[str, object], *, gvisor: bool, bounds: frozenset[str]
) -> tuple[dict[str, Json], tuple[str, ...], tuple[str, ...]]:
    """Facts, equal for two containers of one configuration; what falls short; and what this kind of container lacks."""
    status = _mapping(seen.get("status"))
    abi = int(str(seen.get("landlock_abi", 0)))
    problems = [
        *_identity(order, status, gvisor=gvisor),
        *_mounts(order, seen, bounds & BOUNDS_OF_GVISOR if gvisor else bounds),
        *_kernel(seen, gvisor=gvisor),
    ]
    if status.get("Seccomp") != SECCOMP_FILTER and not gvisor:
        problems.append("no system call filter of the engine's is on init")
    devices = seen.get("network_devices")
    if not isinstance(devices, list) or set(devices) - {"lo"}:
        problems.append(f"there are network devices: {devices}")
    if seen.get("processes") != 1:
        problems.append(f"{seen.get('processes')} processes are in the parked container, 1 was started")
    if seen.get("decoys_watched") != len(order.spec.decoys):
        problems.append("not every decoy is watched")
    spec = order.spec
    facts: dict[str, Json] = {
        "inside": {
            "capabilities": {
                name: value.lstrip("0") or "none" for name, value in _powers(status, gvisor=gvisor).items()
            },
            "no_new_privs": status.get("NoNewPrivs") == "1",
            "seccomp": status.get("Seccomp", ""),
            "user": "own" if status.get("Uid", "").split()[:1] == [str(order.user)] else "other",
            "network_devices": [str(device) for device in devices] if isinstance(devices, list) else [],
            "kernel": str(seen.get("version", "")),
            "gvisor": seen.get("gvisor") is True,
            "landlock_abi": abi,
            "python": str(seen.get("python", "")),
            "machine": str(seen.get("machine", "")),
        },
        "lease_seconds": spec.lease_seconds,
        "wall_seconds": spec.limits.wall_seconds,
        "argv": [*spec.argv],
        "environment": [*sorted(spec.environment)],
        "decoys": [decoy.name for decoy in spec.decoys],
    }
    weaker = (
        []
        if abi
        else ["landlock: the container's kernel has none, so a subject may change its own copy of what it is shown"]
    )
    weaker += ["seccomp: gVisor does not put the engine's filter on what it contains; ours is on the subject alone"] * (
        gvisor and status.get("Seccomp") != SECCOMP_FILTER
    )
    return facts, tuple(problems), tuple(weaker)


def _mapping(value: object) -> dict[str, str]:
    return {str(key): str(each) for key, each in value.items()} if isinstance(value, dict) else {}


def _powers(status: Mapping[str, str], *, gvisor: bool) -> dict[str, str]:
    """The sets of capabilities; one that is not told of counts as full, but for the one that gVisor has not."""
    return {name: status.get(name, "0" if gvisor and name == "CapAmb" else "?") for name in CAPABILITIES}


def _identity(order: Order, status: Mapping[str, str], *, gvisor: bool) -> list[str]:
    """Who init is, and what it may do."""
    found = []
    users = set((status.get("Uid", "") + " " + status.get("Gid", "")).split())
    if users != {str(order.user)} or set(status.get("Groups", "").split()) - {str(order.user)}:
        found.append(f"init runs as users and groups {sorted(users)}, ordered was {order.user}")
    if any(value.strip("0") for value in _powers(status, gvisor=gvisor).values()):
        found.append("init holds capabilities")
    if status.get("NoNewPrivs") != "1":
        found.append("init may gain privileges")
    return found


def _mounts(order: Order, seen: Mapping[str, object], bounds: frozenset[str]) -> list[str]:
    """What is mounted: the ordered folders, small files of the engine, kernel file systems, and nothing else."""
    rows = seen.get("mounts")
    if not isinstance(rows, list):
        return ["the mounts could not be read"]
    ordered = {place.target for place in order.places}
    found = [f"`{target}` is no folder in memory" for target in ordered
             if not any(row[0] == target and row[1] in {"tmpfs", "ramfs"} for row in rows)]  # fmt: skip  # one pair
    for target, kind, options in rows:
        if target == "/":
            found += [] if "ro" in options else ["the root is writable"]
        elif target in ordered:
            wrong = bounds - set(options)
            found += [f"`{target}` lacks {', '.join(sorted(wrong))}"] if wrong else []
        elif not _expected(str(target), str(kind), set(options)):
            found.append(f"`{target}` ({kind}) was not ordered")
    return found


def _expected(target: str, kind: str, options: set[str]) -> bool:
    """Whether this mount is one that every engine makes."""
    if target in FILES_OF_THE_ENGINE:
        return True
    below = any(target == top or target.startswith(top + "/") for top in KERNEL_FOLDERS)
    return below and (kind in NOT_OF_THE_HOST or "ro" in options or target.startswith(("/dev/", "/proc/")))


def _kernel(seen: Mapping[str, object], *, gvisor: bool) -> list[str]:
    """Whether this is gVisor's kernel where it must be."""
    if gvisor and seen.get("gvisor") is not True:
        return [f"this is not gVisor: its kernel calls itself `{seen.get('version', '')!s:.80}`"]
    return []
