"""Attesting: read from the kernel what is enforced on each process of a parked sandbox, and compare with the required.

Only `/proc` and cgroup files are read, from outside; nothing is taken on the word of the sandbox but Landlock's
interface number, which the kernel shows nowhere and which the probes of `tests/sandbox` check by attack.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from keyturn.core.terms import Json, Tier
from keyturn.sandbox.cgroups import Leaf
from keyturn.sandbox.port import Attestation, Spec

NAMESPACES = ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup")
DEVICES = ("null", "zero", "full", "random", "urandom")
WRITABLE = ("/tmp", "/out", "/dev/shm")  # noqa: S108 - the sandbox's own places
HARMLESS_DESCRIPTORS = ("socket:", "pipe:", "anon_inode:", "/dev/null")
SECCOMP_FILTER = "2"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be attested, and what the launcher meant to apply. `user` is the host user it should have."""

    spec: Spec
    leaf: Leaf
    init: int
    monitor: int
    user: int
    backend: str
    filter_digest: str
    landlock_abi: int
    weaker: tuple[str, ...]


def status_of(pid: int) -> dict[str, str]:
    """`/proc/PID/status` as a mapping."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _namespaces(pid: int) -> dict[str, Json]:
    """For each kind whether the process has its own or the governor's."""
    found: dict[str, Json] = {}
    for kind in NAMESPACES:
        own = Path(f"/proc/{pid}/ns/{kind}").readlink() != Path(f"/proc/self/ns/{kind}").readlink()
        found[kind] = "own" if own else "governor's"
    return found


def _user(status: dict[str, str], subject: Subject) -> str:
    """Whose the process is on the host: all four of its user ids and group ids are looked at."""
    users = {int(word) for word in status["Uid"].split()}
    if 0 in users:
        return "root"
    if users == {os.geteuid()}:
        return "governor's"
    groups = {int(word) for word in (status["Gid"] + " " + status["Groups"]).split()}
    return "own" if users == {subject.user} and groups == {subject.user} else "mixed"


def _process(pid: int, subject: Subject) -> dict[str, Json]:
    """What the kernel says of one process, without numbers that differ from run to run."""
    status = status_of(pid)
    powers = {name: status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    return {
        "user": _user(status, subject),
        "capabilities": {name: value.lstrip("0") or "none" for name, value in powers.items()},
        "no_new_privs": status["NoNewPrivs"] == "1",
        "seccomp": {"mode": status["Seccomp"], "filters": status.get("Seccomp_filters", "")},
        "pid_depth": len(status["NSpid"].split()),
        "in_cgroup": subject.leaf.holds(pid),
    }


def _strange_descriptors(pid: int) -> int | None:
    """How many descriptors init holds that we gave it not; None where this user may not look."""
    try:
        links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except PermissionError:
        return None
    return len([link for link in links if not link.startswith(HARMLESS_DESCRIPTORS)])


def _init(subject: Subject) -> dict[str, Json]:
    """Init in full: also its namespaces, descriptors and whether others may look into it."""
    pid = subject.init
    facts = _process(pid, subject)
    owner = Path(f"/proc/{pid}/environ").stat().st_uid
    limit = next(line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if "core" in line)
    return facts | {
        "namespaces": _namespaces(pid),
        "undumpable": owner not in {subject.user, os.geteuid()} or (os.geteuid() == 0 and owner == 0),
        "strange_descriptors": _strange_descriptors(pid),
        "core_bytes_max": limit.split()[4],
    }


def _mounts(pid: int) -> list[tuple[str, str, tuple[str, ...]]]:
    """Every mount that init sees: target, kind ("bind" for what comes from the host), options that matter."""
    found = []
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        words, (kind, _, over) = before.split(" "), after.split(" ", 2)
        sized = over.split(",") if words[4] in WRITABLE else []
        options = words[5].split(",") + [word for word in sized if word.startswith("size=")]
        plain = kind if kind in {"tmpfs", "proc"} else "bind"
        kept = sorted({word for word in options if word in {"ro", "rw", "nosuid", "nodev", "noexec"} or "=" in word})
        found.append((words[4], plain, tuple(kept)))
    return sorted(found)


def _devices(pid: int) -> list[Json]:
    """The network devices that the process could use."""
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    return [line.partition(":")[0].strip() for line in lines]


def facts(subject: Subject) -> dict[str, Json]:
    """Everything that is recorded, equal for two runs of one configuration."""
    limits: dict[str, Json] = dict(subject.leaf.limits().items())
    spec = subject.spec
    waits: dict[str, Json] = {"waits": True, "programs_max": spec.programs_max} if spec.waits else {}
    written: dict[str, Json] = {"executable": True} if spec.executable else {}
    return (
        waits
        | written
        | {
            "backend": subject.backend,
            "kernel": os.uname().release,
            "machine": os.uname().machine,
            "runtime": spec.runtime.digest,
            "filter": subject.filter_digest,
            "landlock_abi": subject.landlock_abi,
            "init": _init(subject),
            "monitor": _process(subject.monitor, subject),
            "processes": len(subject.leaf.processes()) if subject.leaf.folder is not None else 2,
            "mounts": [f"{target} {kind} {','.join(options)}" for target, kind, options in _mounts(subject.init)],
            "network_devices": _devices(subject.init),
            "limits": limits,
            "lease_seconds": spec.lease_seconds,
            "wall_seconds": spec.limits.wall_seconds,
            "argv": [*spec.argv],
            "environment": [*sorted(spec.environment)],
            "decoys": [decoy.name for decoy in spec.decoys],
        }
    )


def _process_problems(subject: Subject, seen: dict[str, Json]) -> list[str]:
    """What is wrong with the two processes of a parked sandbox."""
    init, monitor = seen["init"], seen["monitor"]
    found: list[str] = []
    if not isinstance(init, dict) or not isinstance(monitor, dict):
        return ["the processes could not be read"]
    wanted = "own" if os.geteuid() == 0 else "governor's"
    found += [f"{who} runs as {it['user']} user" for who, it in (("init", init), ("monitor", monitor))
              if it["user"] != wanted]  # fmt: skip  # one pair of rows
    powers = init["capabilities"]
    if not isinstance(powers, dict) or set(powers.values()) != {"none"}:
        found.append("init holds capabilities")
    effective = monitor["capabilities"]
    if not isinstance(effective, dict) or effective["CapEff"] != "none" or effective["CapPrm"] != "none":
        found.append("the monitor holds capabilities")
    if not init["no_new_privs"]:
        found.append("init may gain privileges")
    filtered = init["seccomp"]
    if not isinstance(filtered, dict) or filtered["mode"] != SECCOMP_FILTER:
        found.append("no system call filter is on init")
    spaces = init["namespaces"]
    shared = [kind for kind, whose in spaces.items() if whose != "own"] if isinstance(spaces, dict) else ["all"]
    found += [f"the {kind} namespace is the governor's" for kind in shared]
    if init["pid_depth"] != len(status_of(os.getpid())["NSpid"].split()) + 1:
        found.append("init is not one process namespace below the governor")
    found += [f"{who} is outside its cgroup" for who, it in (("init", init), ("monitor", monitor))
              if not it["in_cgroup"]]  # fmt: skip  # one pair of rows
    if not init["undumpable"]:
        found.append("other processes may look into init")
    if init["strange_descriptors"]:
        found.append("init holds descriptors that it was not given")
    if init["core_bytes_max"] != "0":
        found.append("init may leave a core file")
    if seen["processes"] != 2:
        found.append(f"{seen['processes']} processes are in the parked sandbox, 2 were started")
    return found


def _place_problems(subject: Subject, seen: dict[str, Json]) -> list[str]:
    """What is wrong with mounts, network and limits."""
    decoys = {decoy.target for decoy in subject.spec.decoys}
    writable = {*WRITABLE, "/proc", *decoys, *(f"/dev/{name}" for name in DEVICES)}
    found = []
    for target, kind, options in _mounts(subject.init):
        inside_proc = target.startswith("/proc/")
        if "ro" not in options and target not in writable:
            found.append(f"`{target}` is writable")
        if "nosuid" not in options and not inside_proc:
            found.append(f"`{target}` honours set-user-id files")
        if target in WRITABLE and (kind != "tmpfs" or not any(word.startswith("size=") for word in options)):
            found.append(f"`{target}` has no size")
    if seen["network_devices"] not in (["lo"], []):
        found.append("there are network devices beside the loopback")
    limits = subject.leaf.limits()
    wanted = {"memory": subject.spec.limits.memory_bytes, "pids": subject.spec.limits.processes_max + 2}
    lacking = {text.split(":")[0] for text in subject.weaker}
    for name, most in wanted.items():
        held = limits[name]
        if name not in lacking and "cgroup" not in lacking and (held is None or held > most):
            found.append(f"the limit on {name} is {held}, {most} is required")
    return found


def attest(subject: Subject, tier: Tier) -> Attestation:
    """Read, compare, and give both; an unreadable fact is a problem, never an exception."""
    try:
        seen = facts(subject)
        problems = (*_process_problems(subject, seen), *_place_problems(subject, seen))
    except (OSError, LookupError, ValueError) as error:
        return Attestation(Tier.T0, {}, (f"the kernel's account could not be read: {error}",), subject.weaker)
    blind = () if _known(seen) else ("descriptors: an ordinary user may not list those of init",)
    return Attestation(Tier.T0 if problems else tier, seen, problems, (*subject.weaker, *blind))


def _known(seen: dict[str, Json]) -> bool:
    """Whether init's descriptors could be listed."""
    init = seen["init"]
    return isinstance(init, dict) and init["strange_descriptors"] is not None
