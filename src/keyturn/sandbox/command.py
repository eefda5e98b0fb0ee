"""What a sandbox is made of: bubblewrap's command line, init's instructions, and what the launcher is asked to stage.

Pure but for looking at modes of files; it starts nothing. Whatever is not named here the subject does not see.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import posixpath
import py_compile
import resource
import stat
import tempfile
from pathlib import Path

from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.core.terms import Digest, Json
from keyturn.sandbox.attest import DEVICES, SHM_BYTES
from keyturn.sandbox.collect import KINDS, shown
from keyturn.sandbox.decoys import Decoys
from keyturn.sandbox.port import Runtime, Spec

ALONE = Path(__file__).parent / "alone"
INIT_INSIDE = "/keyturn/init.py"
STAGE = "/tmp"  # noqa: S108 - as in launcher.py: hidden under a fresh tmpfs of the child's own
INIT_SPARE_MS = 250
"""How much later than the governor init stops a subject whose time is up: whose the stop is then is plain."""

OWN_USERS = (0x70000000, 0x7FFFFFF0)
"""Host user ids that no distribution hands out; each sandbox under root gets one of them."""

DEVICE_DEPTH = 4
"""Devices lie at most two folders deep, as in `/dev/dri/by-path/card`."""

RESERVED = ("/proc", "/dev", "/keyturn", "/runtime", "/tmp", "/out", "/lib", "/lib64", "/usr", "/sys")  # noqa: S108 - the sandbox's own places
EXECUTE, WRITE, READ, LIST, TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
REMOVE_FILE, MAKE_REGULAR = 1 << 5, 1 << 8
IOCTL = 1 << 15
EVERYTHING_BUT_EXECUTION = ((1 << 16) - 1) & ~(EXECUTE | 1 << 6 | 1 << 11)
"""All Landlock rights on a folder but running files and making devices."""


def digest_of(data: bytes) -> Digest:
    """The digest of these bytes."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def own_digest() -> Digest:
    """One digest over our own programs inside and around a sandbox, and over this file, which says how one is built."""
    files = [*sorted(ALONE.glob("*.py")), Path(__file__)]
    return digest_of("".join(f"{each.name} {digest_of(each.read_bytes())}\n" for each in files).encode())


def landlock_rules(spec: Spec) -> list[list[Json]]:
    """What the subject may do where, as (path, Landlock rights)."""
    tops = sorted({"/" + bind.target.split("/")[1] for bind in spec.runtime.binds})
    rules: list[list[Json]] = [[top, EXECUTE | READ | LIST] for top in tops]
    rules += [["/proc", READ | LIST], ["/dev", READ | WRITE | LIST | (IOCTL if spec.devices else 0)]]
    written = EVERYTHING_BUT_EXECUTION | (EXECUTE if spec.executable else 0)
    rules += [["/tmp", written], ["/dev/shm", EVERYTHING_BUT_EXECUTION]]  # noqa: S108 - the sandbox's own
    if spec.out:
        rules.append(["/out", READ | LIST | WRITE | TRUNCATE | REMOVE_FILE | MAKE_REGULAR])
    rules += [[mount.target, (READ | EXECUTE) | (LIST if mount.source.is_dir() else 0)] for mount in spec.mounts]
    rules += [[decoy.target, READ | WRITE | TRUNCATE] for decoy in spec.decoys]
    return rules


def early_bounds(spec: Spec) -> list[Json]:
    """The rlimits under which bubblewrap and init stand already, so that they can be attested before the subject is."""
    return [
        [resource.RLIMIT_CORE, 0],
        [resource.RLIMIT_MEMLOCK, 0],
        [resource.RLIMIT_FSIZE, spec.limits.file_bytes_max],
        [resource.RLIMIT_NOFILE, spec.limits.open_files_max],
    ]


def init_config(spec: Spec, *, memory_held: bool) -> dict[str, Json]:
    """What init is told before anything else."""
    limits = spec.limits
    bounds: list[Json] = [*early_bounds(spec), [resource.RLIMIT_NPROC, limits.processes_max + 1]]
    if limits.cpu_seconds_max is not None:
        # One second more: the kernel samples a process and measures a cgroup, and which limit it was must be plain.
        bounds.append([resource.RLIMIT_CPU, math.ceil(limits.cpu_seconds_max) + 1])
    if not memory_held:
        bounds.append([resource.RLIMIT_DATA, limits.memory_bytes])
    python = spec.argv[0] in {"python", "python3"}
    return {
        "lease_ms": int(spec.lease_seconds * 1000),
        "wall_ms": int(limits.wall_seconds * 1000) + INIT_SPARE_MS,
        "waits": spec.waits,
        "serves": spec.argv[2] if spec.programs_max > 1 else "",
        "argv": [spec.runtime.python if python else spec.argv[0], *spec.argv[1:]],
        "environment": dict(spec.environment),
        "folder": "/tmp",  # noqa: S108 - the sandbox's own
        "rlimits": bounds,
        "landlock": [list(rule) for rule in landlock_rules(spec)],
        "out": spec.out,
    }


def check(spec: Spec) -> None:
    """Refuse a spec that cannot mean anything; raises `MalformedInput`."""
    if not spec.argv:
        raise MalformedInput("the subject's command is empty", help="name a program, for example `python`")
    if spec.programs_max > 1 and not (spec.waits and len(spec.argv) == 3 and spec.argv[:2] == ("python", "-I")):
        raise MalformedInput(
            "only a runner that waits can serve programs", help="write its command `python -I FILE`, and let it wait"
        )
    limits = spec.limits
    numbers = (limits.memory_bytes, limits.processes_max, limits.wall_seconds, limits.out_bytes, limits.tmp_bytes)
    shares = [each for each in (limits.cpus, limits.cpu_seconds_max) if each is not None]
    if min(*numbers, *shares, spec.lease_seconds) <= 0:
        raise MalformedInput("every limit must be more than nothing", help="give each limit and the lease a length")
    targets = [mount.target for mount in spec.mounts] + [decoy.target for decoy in spec.decoys]
    for target in targets:
        if posixpath.normpath(target) != target or not target.startswith("/") or target == "/":
            raise MalformedInput(f"`{target}` is not an absolute, plain path", help="write it like `/parent`")
        others = [*RESERVED, *(other for other in targets if other is not target)]
        if any(target == other or target.startswith(other + "/") for other in others):
            raise MalformedInput(f"`{target}` lies within another place of the sandbox", help="choose another target")
    for device in spec.devices:
        if not is_plain_device(device):
            raise MalformedInput(f"`{device}` is no device node under `/dev`", help="name one, like `/dev/nvidia0`")
    for mount in spec.mounts:
        if not mount.source.exists():
            raise Unavailable(f"`{mount.source}` is not there to be mounted", help="make it first")
        odd = odd_one(mount.source.resolve())
        if odd is not None:
            raise MalformedInput(
                f"`{mount.target}` would show {KINDS[stat.S_IFMT(odd.lstat().st_mode)]}, `{shown(odd.name)}`",
                help="mount folders that hold plain files only: a socket or pipe leads out of any read-only mount",
            )


def is_plain_device(path: str) -> bool:
    """Whether this is a device node under `/dev` itself, no link to one and none that every sandbox has."""
    plain = posixpath.normpath(path) == path and path.startswith("/dev/") and path.count("/") <= DEVICE_DEPTH
    if not plain or path.removeprefix("/dev/").split("/")[0] in {*DEVICES, "shm", "fd", "pts"}:
        return False
    try:
        mode = Path(path).lstat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def open_to_all(path: Path) -> bool:
    """Whether any user could read all of it, so that it may be bound rather than copied."""
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode):
        return status.st_mode & 0o005 == 0o005 and all(open_to_all(child) for child in path.iterdir())
    return not stat.S_ISREG(status.st_mode) or bool(status.st_mode & 0o004)


@functools.cache
def reachable(source: Path) -> str | None:
    """Where `source` leads, if every user can get there alone and read it; then nothing must be staged for bubblewrap.

    Not what lies below the stage, which hides it. Asked once for each place: where that is no longer true, bubblewrap
    finds nothing, and the launch is refused.
    """
    try:
        place = source.resolve(strict=True)
        needed = 0o005 if place.is_dir() else 0o004
        ways = [folder.stat().st_mode & 0o001 for folder in place.parents]
        open_to_it = all(ways) and place.stat().st_mode & needed == needed
        return str(place) if open_to_it and not place.is_relative_to(STAGE) else None
    except OSError:
        return None


@functools.cache
def compiled_init() -> int:
    """A file in memory with init as Python would compile it at every launch anew; sandboxes get copies of it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "init.pyc"
        py_compile.compile(str(ALONE / "init.py"), str(file), INIT_INSIDE, doraise=True)
        fd = os.memfd_create("keyturn-init")
        os.write(fd, file.read_bytes())
    return fd


def _namespaces() -> list[str]:
    """Every namespace of its own, no privileges, no environment, no terminal."""
    kinds = [f"--unshare-{kind}" for kind in ("user", "pid", "net", "ipc", "uts", "cgroup")]
    plain = ["--disable-userns", "--as-pid-1", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    return [*kinds, *plain, "--uid", "1000", "--gid", "1000", "--hostname", "keyturn"]


def odd_one(path: Path) -> Path | None:
    """Something at or below `path` that is neither file, folder nor link: a read-only mount does not close those."""
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        return next((found for child in sorted(path.iterdir()) if (found := odd_one(child)) is not None), None)
    return None if stat.S_ISREG(mode) or stat.S_ISLNK(mode) else path


def _masks(runtime: Runtime, *, inside: str) -> list[str]:
    """Empty folders over the parts of a bind that no subject needs."""
    return [word for mask in runtime.masks if mask.startswith(inside + "/") for word in ("--tmpfs", mask)]


TELLING = ("/proc/kallsyms",)
"""Files of the kernel that no subject may read: where its functions lie, which some machines show to everybody."""


def _places(spec: Spec) -> list[str]:
    """The places that are not files of ours: processes, devices, the sized writable folders."""
    words = ["--proc", "/proc"]
    for path in [path for path in TELLING if Path(path).exists()]:
        words += ["--ro-bind", "/dev/null", path]
    words += ["--tmpfs", "/dev"]
    for name in DEVICES:
        words += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for device in spec.devices:
        words += ["--dev-bind", device, device]
    words += ["--symlink", "/proc/self/fd", "/dev/fd", "--size", str(SHM_BYTES), "--tmpfs", "/dev/shm"]  # noqa: S108 - the sandbox's own
    words += ["--size", str(spec.limits.tmp_bytes), "--tmpfs", "/tmp"]  # noqa: S108 - the sandbox's own
    return words + (["--size", str(spec.limits.out_bytes), "--tmpfs", "/out"] if spec.out else [])


def launch_request(program: str, spec: Spec, decoys: Decoys, *, user: int, tasks: list[str]) -> dict[str, Json]:
    """What the launcher is asked: sources staged for the dropped `user`, or as they are for an ordinary one (0).

    `tasks` are the v1 cgroup files into which the first process writes itself.
    """
    binds: list[Json] = []

    def staged(source: Path, how: str = "bind") -> str:
        if not user:
            return str(source)
        binds.append([str(source), f"{STAGE}/{len(binds)}", how])
        return f"{STAGE}/{len(binds) - 1}"

    argv = [program, *_namespaces()]
    for bind in spec.runtime.binds:
        argv += ["--ro-bind", reachable(bind.source) or staged(bind.source), bind.target]
        argv += _masks(spec.runtime, inside=bind.target)
    copied = staged(Path(f"/proc/{os.getpid()}/fd/{compiled_init()}"), "copy") if user else str(ALONE / "init.py")
    argv += ["--ro-bind", copied, INIT_INSIDE]
    for mount in spec.mounts:
        source = mount.source.resolve()
        argv += ["--ro-bind", staged(source, "bind" if open_to_all(source) else "copy"), mount.target]
    argv += _places(spec)
    for decoy, path in decoys.paths:
        argv += ["--bind", staged(path), decoy.target]
    argv += [word for mask in spec.runtime.masks for word in ("--remount-ro", mask)]
    argv += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--seccomp", "4", "--"]
    argv += [spec.runtime.python, "-I", "-S", INIT_INSIDE]
    return {"uid": user, "binds": binds, "argv": [*argv], "tasks": [*tasks], "rlimits": early_bounds(spec)}
