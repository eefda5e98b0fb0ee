"""Cgroups: where ours lie, a fresh leaf for each sandbox with its limits, the kill, and what is still alive.

The v2 hierarchy kills and counts; where it has no controllers (a hybrid machine), leaves of v1 hold memory and number
of processes. Nothing outside our own root is ever written to, but for turning controllers on above it.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from keyturn.core.errors import Unavailable

CONTROLLERS = ("memory", "pids", "cpu")
NEEDED = ("memory", "pids")
"""What every sandbox is limited in; processor time only where its spec says so."""

PERIOD_US = 20_000
"""How often a share of the processors is given out anew; short, so that whoever used it up can soon end."""

REMOVE_SECONDS_MAX = 2.0
ASIDE = "keyturn-governor"
"""Where processes go that live in a delegated cgroup: with controllers on, only leaves may hold any."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where our cgroups go: `root` in v2 (None: none is ours to use), `v1` per controller; `weaker` says what lacks."""

    root: Path | None
    v1: dict[str, Path]
    controllers: frozenset[str]
    weaker: tuple[tuple[str, str], ...] = ()

    @property
    def usable(self) -> bool:
        """Whether a sandbox can be killed and counted by its cgroup."""
        return self.root is not None


def _mounts() -> tuple[Path | None, dict[str, Path]]:
    """Where cgroup v2 is mounted, and each v1 controller."""
    v2: Path | None = None
    v1: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        place = Path(before.split(" ")[4])
        if kind == "cgroup2" and v2 is None:
            v2 = place
        elif kind == "cgroup":
            for name in CONTROLLERS:
                if name in options.split(","):
                    v1[name] = place
    return v2, v1


def mounted() -> tuple[Path, ...]:
    """Every place where cgroup v2 is mounted."""
    lines = [line.partition(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return tuple(Path(before.split(" ")[4]) for before, _, after in lines if after.startswith("cgroup2 "))


def _own(v2: Path) -> Path:
    """The cgroup in which this process is."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return v2 / line[3:].lstrip("/")
    return v2


def _write(path: Path, text: str) -> bool:
    """Write to a control file; False where the kernel refuses."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _read(path: Path) -> str:
    """A control file's text; empty where it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _turn_on(folder: Path) -> frozenset[str]:
    """Turn our controllers on for the children of `folder`, moving those who live in it aside if they are in the way.

    They are moved before the first controller: with somebody inside, `pids` alone would be taken, would make a threaded
    domain of `folder`, and nothing could be started below it any more (cgroups(7), "no internal processes").
    """
    there = set(_read(folder / "cgroup.controllers").split()) & set(CONTROLLERS)
    lacking = there - set(_read(folder / "cgroup.subtree_control").split())
    is_top = not (folder / "cgroup.type").exists()
    if lacking and not is_top and _read(folder / "cgroup.procs"):
        _move_aside(folder)
    for name in sorted(lacking):
        _write(folder / "cgroup.subtree_control", f"+{name}")
    return frozenset(set(_read(folder / "cgroup.subtree_control").split()) & there)


def _move_aside(folder: Path) -> None:
    """Move whoever lives in a cgroup that was delegated to us, this process first, into a leaf of its own."""
    aside = folder / ASIDE
    aside.mkdir(exist_ok=True)
    for pid in [str(os.getpid()), *_read(folder / "cgroup.procs").split()]:
        _write(aside / "cgroup.procs", pid)


def _delegated(folder: Path) -> bool:
    """Whether systemd says that what lies below this cgroup is ours to arrange (`Delegate=yes`)."""
    for name in ("trusted.delegate", "user.delegate"):
        try:
            return os.getxattr(folder, name) == b"1"
        except OSError:
            continue
    return False


def _base(v2: Path) -> Path | None:
    """The cgroup under which ours may be made; None without.

    That is the one that was delegated to us, where systemd itself is one more hand that kills when the governor ends;
    for root without such, the top.
    """
    own = _own(v2)
    own = own.parent if own.name == ASIDE else own
    base = own if os.geteuid() != 0 or _delegated(own) else v2
    may = os.access(base, os.W_OK) and os.access(base / "cgroup.procs", os.W_OK)
    return base if may else None


def discover(name: str) -> Layout:
    """Find or make our own root, called `name`; never raises for what is merely missing."""
    v2, v1_mounts = _mounts()
    base = _base(v2) if v2 is not None else None
    if base is None:
        why = "no cgroup v2 is mounted" if v2 is None else "no cgroup of this user's own was delegated"
        return Layout(None, {}, frozenset(), (("cgroup", why),))
    root = base / name
    try:
        root.mkdir(exist_ok=True)
    except OSError as error:
        return Layout(None, {}, frozenset(), (("cgroup", f"our cgroup could not be made: {error.strerror}"),))
    if not (root / "cgroup.kill").exists():
        return Layout(None, {}, frozenset(), (("cgroup", "this kernel has no cgroup.kill (Linux 5.14)"),))
    on = _turn_on(base) and _turn_on(root)
    v1: dict[str, Path] = {}
    for controller, mounted in v1_mounts.items():
        place = mounted / name
        try:
            place.mkdir(exist_ok=True)
        except OSError:
            continue
        v1[controller] = place
    absent = [name for name in NEEDED if name not in on and name not in v1]
    return Layout(root, v1, on, tuple((name, f"no cgroup limits `{name}`") for name in absent))


def populated(folder: Path) -> bool:
    """Whether any process lives in the cgroup or below; raises `Unavailable` where the kernel does not say."""
    try:
        words = (folder / "cgroup.events").read_text().split()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Unavailable(f"the kernel does not say who lives in our cgroup: {error.strerror}") from error
    return words[words.index("populated") + 1] != "0"


def hold_still(folder: Path, *, still: bool) -> bool:
    """Have the kernel hold every process in the cgroup and below still, or let go; False where it refuses."""
    return _write(folder / "cgroup.freeze", "1" if still else "0")


def is_still(folder: Path) -> bool:
    """Whether the kernel says that every process in the cgroup is held still."""
    return _key(_read(folder / "cgroup.events"), "frozen") == 1


def processes(folder: Path) -> list[int]:
    """Every process in the cgroup and below."""
    found = [int(word) for word in _read(folder / "cgroup.procs").split()]
    try:
        below = [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        below = []
    return found + [pid for child in below for pid in processes(child)]


def remove(folder: Path) -> bool:
    """Remove a cgroup and those below it; waits a little for the kernel to let go. False where something stays."""
    until = time.monotonic() + REMOVE_SECONDS_MAX
    while folder.exists():
        try:
            for entry in list(os.scandir(folder)):
                if entry.is_dir(follow_symlinks=False):
                    remove(Path(entry.path))
            folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            if time.monotonic() > until:
                return False
            time.sleep(0.002)
    return True


def _key(text: str, name: str) -> int:
    """One number out of a flat keyed file; 0 where it is not there."""
    words = text.split()
    return int(words[words.index(name) + 1]) if name in words else 0


@dataclass(slots=True)
class Leaf:
    """The cgroup of one sandbox. `kill` takes no lock and opens nothing, so that it can always be written."""

    layout: Layout
    name: str
    folder: Path | None = None
    fd: int = -1
    kill_fd: int = -1
    quota_fd: int = -1
    v1: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def make(
        cls, layout: Layout, name: str, *, memory_bytes: int, processes_max: int, cpus: float | None = None
    ) -> Leaf:
        """A fresh leaf with its limits; raises `Unavailable` where a limit that the layout promises is refused.

        Without `cpus` it joins no hierarchy for them: each one more that v1 asks for makes a launch slower.
        """
        leaf = cls(layout, name)
        if layout.root is None:
            return leaf
        try:
            leaf._build(layout.root, memory_bytes=memory_bytes, processes_max=processes_max, cpus=cpus)
        except BaseException:
            leaf.remove()
            raise
        return leaf

    def _build(self, root: Path, *, memory_bytes: int, processes_max: int, cpus: float | None) -> None:
        self.folder = root / self.name
        self.folder.mkdir()
        if "memory" in self.layout.controllers:
            self._limit(self.folder / "memory.max", memory_bytes)
            _write(self.folder / "memory.swap.max", "0")
            _write(self.folder / "memory.oom.group", "1")
        if "pids" in self.layout.controllers:
            self._limit(self.folder / "pids.max", processes_max)
        for controller, place in self.layout.v1.items():
            if controller == "cpu" and cpus is None:
                continue
            self.v1[controller] = place / self.name
            self.v1[controller].mkdir()
        if "memory" in self.v1:
            self._limit(self.v1["memory"] / "memory.limit_in_bytes", memory_bytes)
            _write(self.v1["memory"] / "memory.memsw.limit_in_bytes", str(memory_bytes))
            _write(self.v1["memory"] / "memory.swappiness", "0")
        if "pids" in self.v1:
            self._limit(self.v1["pids"] / "pids.max", processes_max)
        if cpus is not None:
            self._share(self.folder, round(cpus * PERIOD_US))
        self.fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.kill_fd = os.open(self.folder / "cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)

    def _share(self, folder: Path, quota_us: int) -> None:
        """Bound the processors' time within each period, and keep the file open so that a kill can lift it."""
        if "cpu" in self.layout.controllers:
            self._limit(folder / "cpu.max", f"{quota_us} {PERIOD_US}")
            self.quota_fd = os.open(folder / "cpu.max", os.O_WRONLY | os.O_CLOEXEC)
        elif "cpu" in self.v1:
            self._limit(self.v1["cpu"] / "cpu.cfs_period_us", PERIOD_US)
            self._limit(self.v1["cpu"] / "cpu.cfs_quota_us", quota_us)
            self.quota_fd = os.open(self.v1["cpu"] / "cpu.cfs_quota_us", os.O_WRONLY | os.O_CLOEXEC)

    def _limit(self, path: Path, value: int | str) -> None:
        if not _write(path, str(value)):
            raise Unavailable(f"the kernel refused the limit `{path.name}` of {value}", help="see `keyturn doctor`")

    def tasks(self) -> list[str]:
        """The v1 files into which the first process writes itself; a single thread moves without a global lock."""
        return [str(place / "tasks") for place in self.v1.values()]

    def kill(self) -> bool:
        """Kill everything in it at once; False where it has no cgroup or is already gone."""
        try:
            return self.kill_fd >= 0 and os.write(self.kill_fd, b"1") == 1
        except OSError:
            return False
        finally:
            self.lift()

    def lift(self) -> None:
        """Give what was killed all the processors to die on: who used up a share could not even end before the next."""
        if self.quota_fd >= 0:
            with contextlib.suppress(OSError):
                os.write(self.quota_fd, b"max" if "cpu" in self.layout.controllers else b"-1")

    def processes(self) -> list[int]:
        """Every process in it."""
        return processes(self.folder) if self.folder is not None else []

    def populated(self) -> bool:
        """Whether any process lives in it."""
        return self.folder is not None and populated(self.folder)

    def cpu_seconds(self) -> float | None:
        """The processor time used in it so far; None where the kernel does not count."""
        text = _read(self.folder / "cpu.stat") if self.folder is not None else ""
        return _key(text, "usage_usec") / 1e6 if "usage_usec" in text else None

    def memory_bytes_peak(self) -> int | None:
        """The most memory that it ever held; None where the kernel does not count."""
        for place, name in ((self.folder, "memory.peak"), (self.v1.get("memory"), "memory.max_usage_in_bytes")):
            text = _read(place / name) if place is not None else ""
            if text:
                return int(text)
        return None

    def memory_bytes(self) -> int | None:
        """The memory that it holds now; None where the kernel does not count."""
        for place, name in ((self.folder, "memory.current"), (self.v1.get("memory"), "memory.usage_in_bytes")):
            text = _read(place / name) if place is not None else ""
            if text:
                return int(text)
        return None

    def out_of_memory(self) -> bool:
        """Whether the kernel killed a process in it for want of memory."""
        new = _read(self.folder / "memory.events") if self.folder is not None else ""
        old = _read(self.v1["memory"] / "memory.oom_control") if "memory" in self.v1 else ""
        return _key(new, "oom_kill") + _key(old, "oom_kill") > 0

    def limits(self) -> dict[str, int | None]:
        """The limits as the kernel holds them now; None where nothing limits."""
        found: dict[str, int | None] = {}
        places = {
            "memory": [(self.folder, "memory.max"), (self.v1.get("memory"), "memory.limit_in_bytes")],
            "pids": [(self.folder, "pids.max"), (self.v1.get("pids"), "pids.max")],
        }
        for name, candidates in places.items():
            texts = [_read(place / file).strip() for place, file in candidates if place is not None]
            numbers = [int(text) for text in texts if text.isdigit()]
            found[name] = min(numbers) if numbers else None
        return found | {"swap": self._swap(), "cpu_thousandths": self._cpu_thousandths()}

    def _swap(self) -> int | None:
        """How many bytes may be swapped out; None where the kernel does not say."""
        new = _read(self.folder / "memory.swap.max").strip() if self.folder is not None else ""
        if new:
            return int(new) if new.isdigit() else None
        texts = [_read(self.v1["memory"] / f"memory.{name}limit_in_bytes").strip() for name in ("memsw.", "")
                 ] if "memory" in self.v1 else []  # fmt: skip  # both sums in one row
        return int(texts[0]) - int(texts[1]) if texts and all(texts) else None

    def _cpu_thousandths(self) -> int | None:
        """How many thousandths of a processor it may use; None where nothing limits."""
        words = _read(self.folder / "cpu.max").split() if "cpu" in self.layout.controllers and self.folder else []
        if "cpu" in self.v1:
            words = [_read(self.v1["cpu"] / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        return int(words[0]) * 1000 // int(words[1]) if len(words) == 2 and words[0].isdigit() else None

    def holds(self, pid: int) -> bool:
        """Whether the process is in this leaf, in every hierarchy that limits it."""
        lines = _read(Path(f"/proc/{pid}/cgroup")).splitlines()
        wanted = len(self.v1) + (self.folder is not None)
        return sum(line.endswith(f"/{self.name}") for line in lines) >= wanted

    def remove(self) -> bool:
        """Remove the leaf in every hierarchy; False where something stays."""
        for fd in (self.fd, self.kill_fd, self.quota_fd):
            if fd >= 0:
                os.close(fd)
        self.fd = self.kill_fd = self.quota_fd = -1
        places = [place for place in (self.folder, *self.v1.values()) if place is not None]
        gone = [remove(place) for place in places]
        return all(gone)
