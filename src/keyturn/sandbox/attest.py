"""Attesting: read from the kernel what is enforced on each process of a parked sandbox, and compare with the required.

Every comparison is a `Row`, of each process in the cgroup whoever it is, and of the place it sees; problems are the
rows that fail. Only `/proc` and cgroup files are read, from outside; nothing is taken on the word of the sandbox
but Landlock's interface number, which the kernel shows nowhere and the probes of `tests/sandbox` check by attack.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keyturn.core.terms import Json, Tier
from keyturn.sandbox.cgroups import Leaf
from keyturn.sandbox.port import Attestation, Row, Spec

NAMESPACES = ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup")
DEVICES = ("null", "zero", "full", "random", "urandom")
WRITABLE = ("/tmp", "/out", "/dev/shm")  # noqa: S108 - the sandbox's own places
HARMLESS_DESCRIPTORS = ("socket:", "pipe:", "anon_inode:", "/dev/null")
SECCOMP_FILTER = "2"
CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
DEPTH = {"init": 1, "monitor": 0}
"""How many process namespaces below the governor each of the two is."""

RLIMITS = {"core": "core file size", "file": "file size", "open": "open files", "locked": "locked memory"}
"""What stands on every process before the subject does; the rest init sets on the subject itself."""

SHM_BYTES = 16 << 20
GOVERNORS, OWN, NONE, UNKNOWN = "governor's", "own", "none", "unknown"


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
    program: str = ""


def status_of(pid: int) -> dict[str, str]:
    """`/proc/PID/status` as a mapping."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


# --- what is seen of one process, without numbers that differ from run to run


def _namespaces(pid: int) -> dict[str, Json]:
    """For each kind whether the process has its own or the governor's."""
    found: dict[str, Json] = {}
    for kind in NAMESPACES:
        own = Path(f"/proc/{pid}/ns/{kind}").readlink() != Path(f"/proc/self/ns/{kind}").readlink()
        found[kind] = OWN if own else GOVERNORS
    return found


def _user(status: dict[str, str], subject: Subject) -> str:
    """Whose the process is on the host: all four of its user ids and group ids are looked at."""
    users = {int(word) for word in status["Uid"].split()}
    if 0 in users:
        return "root"
    if users == {os.geteuid()}:
        return GOVERNORS
    groups = {int(word) for word in (status["Gid"] + " " + status["Groups"]).split()}
    return OWN if users == {subject.user} and groups == {subject.user} else "mixed"


def _rlimits(pid: int) -> dict[str, Json]:
    """The hard rlimits that were set before the subject."""
    found: dict[str, Json] = {}
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        for name, text in RLIMITS.items():
            if line.startswith(f"Max {text} "):
                found[name] = line[4 + len(text) :].split()[1]
    return found


def _process(pid: int, subject: Subject) -> dict[str, Json]:
    """What the kernel says of one process."""
    status = status_of(pid)
    return {
        "user": _user(status, subject),
        "capabilities": {name: status[name].lstrip("0") or NONE for name in CAPABILITIES},
        "no_new_privs": status["NoNewPrivs"] == "1",
        "seccomp": {"mode": status["Seccomp"], "filters": status.get("Seccomp_filters", "")},
        "pid_depth": len(status["NSpid"].split()),
        "in_cgroup": subject.leaf.holds(pid),
        "rlimits": _rlimits(pid),
        "namespaces": _namespaces(pid),
        "strange_descriptors": _strange_descriptors(pid),
        "program": _program(f"/proc/{pid}/exe"),
    }


def _strange_descriptors(pid: int) -> int | None:
    """How many descriptors a process holds that we gave it not; None where this user may not look."""
    try:
        links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except PermissionError:
        return None
    return len([link for link in links if not link.startswith(HARMLESS_DESCRIPTORS)])


_PROGRAMS: dict[tuple[int, int, int, int], str] = {}
"""Digests of programs by inode, size and change: a program is read once, not at every launch."""


def _program(path: str) -> str:
    """The digest of a program that is executed or would be; "unknown" where this user may not look."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return UNKNOWN
    with open(fd, "rb") as file:  # noqa: PTH123 - what is open is read, whatever lies there by then
        seen = os.fstat(fd)
        key = (seen.st_dev, seen.st_ino, seen.st_size, seen.st_ctime_ns)
        if key not in _PROGRAMS:
            _PROGRAMS[key] = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    return _PROGRAMS[key]


def _init(subject: Subject) -> dict[str, Json]:
    """Init in full: also whether others may look into it."""
    pid = subject.init
    facts = _process(pid, subject)
    owner = Path(f"/proc/{pid}/environ").stat().st_uid
    undumpable = owner not in {subject.user, os.geteuid()} or (os.geteuid() == 0 and owner == 0)
    return facts | {"undumpable": undumpable}


# --- what is seen of the place


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


def _network(pid: int) -> list[Json]:
    """The network devices that the process could use."""
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    return [line.partition(":")[0].strip() for line in lines]


def _routes(pid: int) -> list[Json]:
    """The network devices to which any route leads, but for the loopback."""
    old = [line.split()[0] for line in Path(f"/proc/{pid}/net/route").read_text().splitlines()[1:]]
    place = Path(f"/proc/{pid}/net/ipv6_route")
    new = [line.split()[-1] for line in place.read_text().splitlines()] if place.exists() else []
    return [*sorted({*old, *new} - {"lo"})]


def _device_nodes(pid: int, mounts: list[tuple[str, str, tuple[str, ...]]]) -> list[Json]:
    """Every device node under `/dev`; where an ordinary user may not look, whatever is mounted there."""
    found: list[Json] = []
    place = Path(f"/proc/{pid}") / "root"
    waiting = [place / "dev"]
    try:
        while waiting:
            for entry in os.scandir(waiting.pop()):
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    waiting.append(Path(entry.path))
                elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                    found.append(_named(entry.path, entry.path.removeprefix(str(place))))
    except PermissionError:
        return [*sorted(_named(target, target) for target, kind, _ in mounts if _is_device(target, kind))]
    return [*sorted(map(str, found))]


def _is_device(target: str, kind: str) -> bool:
    return target.startswith("/dev/") and target != "/dev/shm" and kind == "bind"  # noqa: S108 - the sandbox's own


def _named(path: str, name: str) -> str:
    """A device node by name and number."""
    seen = Path(path).lstat()
    return f"{name} {os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}"


def _kibibytes(option: str) -> int:
    """A tmpfs's size in bytes, as mount options write it."""
    text = option.removeprefix("size=")
    return int(text[:-1]) * 1024 if text.endswith("k") else int(text)


def facts(subject: Subject) -> dict[str, Json]:
    """Everything that is recorded, equal for two runs of one configuration."""
    spec, mounts = subject.spec, _mounts(subject.init)
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
            "mounts": [f"{target} {kind} {','.join(options)}" for target, kind, options in mounts],
            "devices": _device_nodes(subject.init, mounts),
            "network_devices": _network(subject.init),
            "routes": _routes(subject.init),
            "limits": {**subject.leaf.limits()},
            "lease_seconds": spec.lease_seconds,
            "wall_seconds": spec.limits.wall_seconds,
            "cpu_seconds_max": spec.limits.cpu_seconds_max,
            "argv": [*spec.argv],
            "environment": [*sorted(spec.environment)],
            "decoys": [decoy.name for decoy in spec.decoys],
        }
    )


# --- the comparison


def _equal(who: str, field: str, required: object, effective: object) -> Row:
    return Row(who, field, _word(required), _word(effective), required == effective)


def _most(who: str, field: str, required: int, effective: object) -> Row:
    """Something of which there may be less; what nothing bounds, or nobody can read, is more."""
    number = int(str(effective)) if str(effective).isdigit() else None
    return Row(who, field, f"at most {required}", _word(effective), number is not None and number <= required)


def _word(value: object) -> str:
    """A value as people read it in a row."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or NONE
    return NONE if value is None else str(value)


def _part(facts: Json, name: str) -> dict[str, Json]:
    """A table within what was seen; a missing one is empty, so that each of its rows fails."""
    found = facts.get(name) if isinstance(facts, dict) else None
    return found if isinstance(found, dict) else {}


def _process_rows(subject: Subject, who: str, seen: dict[str, Json]) -> Iterator[Row]:
    """One process against what everybody in the sandbox must be, and what init and the monitor must be besides."""
    spec, own = subject.spec, status_of(os.getpid())
    yield _equal(who, "host user", OWN if os.geteuid() == 0 else GOVERNORS, seen["user"])
    for name in CAPABILITIES:
        if who != "monitor" or name != "CapBnd":  # what bounds the monitor's is no_new_privs
            yield _equal(who, name, NONE, _part(seen, "capabilities").get(name))
    yield _equal(who, "no_new_privs", True, seen["no_new_privs"])
    yield _equal(who, "cgroup", True, seen["in_cgroup"])
    if seen["strange_descriptors"] is not None:
        yield _equal(who, "strange descriptors", 0, seen["strange_descriptors"])
    most = {"core": 0, "locked": 0, "file": spec.limits.file_bytes_max, "open": spec.limits.open_files_max}
    for name, text in RLIMITS.items():
        yield _most(who, f"rlimit {text}", most[name], _part(seen, "rlimits").get(name))
    depth = len(own["NSpid"].split()) + DEPTH.get(who, 1)
    yield _equal(who, "process namespaces", depth, seen["pid_depth"])
    if who == "monitor":
        if os.geteuid() == 0:  # in which what only the governor may see was staged for it
            yield _equal(who, "namespace mnt", OWN, _part(seen, "namespaces").get("mnt"))
        yield from _program_row(who, subject.program, seen)
        return
    filtered = _part(seen, "seccomp")
    yield _equal(who, "seccomp mode", SECCOMP_FILTER, filtered.get("mode"))
    wanted = int(own.get("Seccomp_filters") or 0) + 1
    count = str(filtered.get("filters") or "0")
    yield Row(who, "seccomp filters", f"at least {wanted}", count, count.isdigit() and int(count) >= wanted)
    for kind in NAMESPACES:
        yield _equal(who, f"namespace {kind}", OWN, _part(seen, "namespaces").get(kind))
    yield _equal(who, "undumpable", True, seen.get("undumpable", False))
    if who == "init":
        python = next((b.source for b in spec.runtime.binds if b.target == spec.runtime.python), None)
        yield from _program_row(who, str(python) if python else "", seen)


def _program_row(who: str, path: str, seen: dict[str, Json]) -> Iterator[Row]:
    """Whether the process runs the program that we named, where the kernel lets us look."""
    if path and seen["program"] != UNKNOWN:
        yield _equal(who, "program", _program(path), seen["program"])


def _stranger_rows(subject: Subject) -> Iterator[Row]:
    """Whoever else is in the cgroup, each field for field: nobody but init and its monitor has any business there."""
    for pid in subject.leaf.processes():
        if pid not in {subject.init, subject.monitor}:
            yield _equal("stranger", "in the parked sandbox", False, True)
            yield from _process_rows(subject, "stranger", _process(pid, subject))


def _mount_rows(subject: Subject, mounts: Json) -> Iterator[Row]:
    """Each mount: read-only but for the named places, no set-user-id files, no devices but the named ones, a size."""
    spec = subject.spec
    nodes = {f"/dev/{name}" for name in DEVICES} | {*spec.devices}
    writable = {*WRITABLE, "/proc", *(decoy.target for decoy in spec.decoys), *nodes}
    sizes = {"/tmp": spec.limits.tmp_bytes, "/out": spec.limits.out_bytes, "/dev/shm": SHM_BYTES}  # noqa: S108 - the sandbox's own
    for line in mounts if isinstance(mounts, list) else []:
        target, kind, words = str(line).rsplit(" ", 2)
        options = words.split(",")
        who, inside_proc = f"mount {target}", target.startswith("/proc/")
        if target not in writable:
            yield _equal(who, "writable", False, "ro" not in options)
        if not inside_proc:
            yield _equal(who, "set-user-id files", False, "nosuid" not in options)
            if target not in nodes:
                yield _equal(who, "devices", False, "nodev" not in options)
        if target in WRITABLE:
            size = next((_kibibytes(word) for word in options if word.startswith("size=")), None)
            yield _equal(who, "kind", "tmpfs", kind)
            yield _most(who, "size", -(-sizes[target] // 4096) * 4096, size)


def _place_rows(subject: Subject, seen: dict[str, Json]) -> Iterator[Row]:
    """Mounts, devices, network and the limits that the kernel holds now."""
    spec, limits = subject.spec, _part(seen, "limits")
    yield from _mount_rows(subject, seen["mounts"])
    wanted = [_named(path, path) for path in (*(f"/dev/{name}" for name in DEVICES), *spec.devices)]
    yield _equal("sandbox", "devices", sorted(wanted), seen["devices"])
    yield _equal("sandbox", "network devices", True, seen["network_devices"] in (["lo"], []))
    yield _equal("sandbox", "routes", [], seen["routes"])
    lacking = {text.split(":")[0] for text in subject.weaker}
    most = {"memory": spec.limits.memory_bytes, "pids": spec.limits.processes_max + 2}
    if spec.limits.cpus is not None and "cpu" not in lacking:
        most["cpu_thousandths"] = round(spec.limits.cpus * 1000)
    if limits.get("swap") is not None:
        most["swap"] = 0
    for name, number in most.items():
        if name not in lacking and "cgroup" not in lacking:
            yield _most("sandbox", f"limit {name}", number, limits.get(name))
    if not {"memory", "cgroup"} & lacking:  # the writable folders count as memory, so what holds that holds them
        total = spec.limits.tmp_bytes + SHM_BYTES + (spec.limits.out_bytes if spec.out else 0)
        held = limits.get("memory")
        bound = min(total, held) if isinstance(held, int) else None
        yield _most("sandbox", "writable bytes in all", spec.limits.memory_bytes, bound)


def rows(subject: Subject, seen: dict[str, Json]) -> tuple[Row, ...]:
    """Every comparison, in a fixed order."""
    return (
        *_process_rows(subject, "init", _part(seen, "init")),
        *_process_rows(subject, "monitor", _part(seen, "monitor")),
        *_stranger_rows(subject),
        *_place_rows(subject, seen),
    )


def _problem(row: Row) -> str:
    return f"{row.who}: {row.field} is {row.effective}; {row.required} is required"


def attest(subject: Subject, tier: Tier) -> Attestation:
    """Read, compare, and give both; an unreadable fact is a problem, never an exception."""
    try:
        seen = facts(subject)
        compared = rows(subject, seen)
    except (OSError, LookupError, ValueError) as error:
        return Attestation(Tier.T0, {}, (f"the kernel's account could not be read: {error}",), subject.weaker)
    problems = tuple(_problem(row) for row in compared if not row.ok)
    known = _part(seen, "init").get("strange_descriptors") is not None
    blind = () if known else ("descriptors: an ordinary user may not list those of init",)
    return Attestation(Tier.T0 if problems else tier, seen, problems, (*subject.weaker, *blind), compared)
