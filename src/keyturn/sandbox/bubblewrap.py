"""The default backend: bubblewrap around our own init, in a cgroup and under a host user of its own.

It launches, keeps account of what lives, and stops it; what it cannot have it names. It never starts a subject under
host user 0, and never lets one begin before a caller has had the chance to attest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from keyturn.core.errors import Unavailable, invariant
from keyturn.core.terms import Tier
from keyturn.sandbox import seccomp
from keyturn.sandbox.attest import Subject
from keyturn.sandbox.cell import Cell, Ends, process_namespace
from keyturn.sandbox.cgroups import Layout, Leaf, discover, populated, processes, remove
from keyturn.sandbox.command import OWN_USERS, check, digest_of, init_config, launch_request, own_digest
from keyturn.sandbox.decoys import Decoys
from keyturn.sandbox.freezing.freezer import Freezer
from keyturn.sandbox.freezing.held import Held, Look
from keyturn.sandbox.launching.launcher import PARK_SECONDS_MAX, Launcher
from keyturn.sandbox.port import Capabilities, Receipt, Runtime, Spec
from keyturn.sandbox.proof import Target, stop
from keyturn.sandbox.running import BubblewrapParked
from keyturn.sandbox.runtime import resolve
from keyturn.sandbox.traces import whereabouts
from keyturn.sandbox.traces.marks import Marks

LAUNCHER_SECONDS_MAX = 1.0
OUR_PROCESSES = 2
"""Init and the monitor outside, who count in the cgroup and not against the subject."""


class Bubblewrap:
    """The backend. See `port.Backend`."""

    def __init__(self, run_root: Path, *, runtime_cache: Path) -> None:
        self.run_root = run_root.resolve()
        self.marks = Marks(self.run_root)
        self.name = f"keyturn-{hashlib.sha256(os.fsencode(self.run_root)).hexdigest()[:12]}"
        self._cache = runtime_cache
        self._launcher = Launcher()
        self._live: dict[str, Cell] = {}
        self._halts = 0
        self._kill_fd = -1
        self._layout: Layout | None = None
        self._capabilities: Capabilities | None = None
        self._program = ""
        self._freezer = Freezer(self._root, lambda: list(self._live.values()))

    # -- what there is

    def layout(self) -> Layout:
        """Our cgroups, found when first needed."""
        if self._layout is None:
            self._layout = discover(self.name)
            if self._layout.root is not None:
                self._kill_fd = os.open(self._layout.root / "cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
        return self._layout

    def _root(self) -> Path | None:
        return self._layout.root if self._layout is not None else None

    def runtime(self, name: str = "python-numpy") -> Runtime:
        """The runtime of that name."""
        return resolve(name, self._cache)

    def program(self) -> str:
        """Where bubblewrap is; raises `Unavailable` without it."""
        found = self._program or shutil.which("bwrap", path="/usr/bin:/bin:/usr/local/bin")
        if not found:
            raise Unavailable("bubblewrap is not installed", help="install the package `bubblewrap`")
        self._program = found
        return found

    def weaker(self) -> tuple[str, ...]:
        """What tier T2 promises and this machine or user does not give."""
        found = [f"{name}: {why}" for name, why in self.layout().weaker]
        if os.geteuid() != 0:
            found.append("user: the subject runs as the governor's own host user")
        return tuple(found)

    def _lacking(self, spec: Spec, word: dict[str, object]) -> tuple[str, ...]:
        """What this spec asks for that no kernel here gives, or that nobody can prove."""
        layout = self.layout()
        found = [] if word["landlock_abi"] else ["landlock: this kernel has none"]
        if spec.limits.cpus is not None and "cpu" not in layout.controllers and "cpu" not in layout.v1:
            found.append("cpu: no cgroup limits `cpu`, so only each process's own processor time is bounded")
        if spec.devices:
            found.append("devices: the halt of a device is not proven")
        return tuple(found)

    def capabilities(self) -> Capabilities:
        """What this machine enforces, found out by launching a probe."""
        if self._capabilities is None:
            from keyturn.sandbox.probe import capabilities

            self._capabilities = capabilities(self)
        return self._capabilities

    def profile(self) -> dict[str, str]:
        """What every sandbox here is made of: kernel, bubblewrap, filter, our own programs, and how cgroups lie."""
        layout = self.layout()
        held = "v2 and v1" if layout.v1 else "v2" if layout.root is not None else "none"
        return {
            "kernel": f"{os.uname().release} {os.uname().machine}",
            "backend": self._version(),
            "program": digest_of(Path(self.program()).read_bytes()),
            "filter": digest_of(seccomp.for_this_machine()),
            "profile": own_digest(),
            "cgroup layout": " ".join((held, *sorted({*layout.controllers, *layout.v1}))),
        }

    # -- launching

    def prepare(self, spec: Spec) -> BubblewrapParked:
        """Build a sandbox and park its init; waits while everything is held still."""
        with self._freezer.launching():
            return self._prepare(spec)

    def _prepare(self, spec: Spec) -> BubblewrapParked:
        check(spec)
        program, layout, halts = self.program(), self.layout(), self._halts
        name = f"{spec.purpose}-{secrets.token_hex(6)}"
        user = OWN_USERS[0] + secrets.randbelow(OWN_USERS[1] - OWN_USERS[0]) if os.geteuid() == 0 else 0
        folder = self.run_root / name
        with contextlib.ExitStack() as undo:
            folder.mkdir(parents=True, mode=0o700)
            whereabouts.remember(self.run_root, self.name, layout.root)
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            decoys = Decoys(folder / "decoys", spec.decoys, user or None)
            most = spec.limits.processes_max + OUR_PROCESSES
            memory, cpus = spec.limits.memory_bytes, spec.limits.cpus
            leaf = Leaf.make(layout, name, memory_bytes=memory, processes_max=most, cpus=cpus)
            undo.callback(leaf.remove)
            ends, theirs = _open_ends(spec)
            undo.pop_all()
        cell = Cell(name, spec, leaf=leaf, ends=ends, decoys=decoys, folder=folder, done=self._forget)
        self._live[name] = cell
        try:
            if spec.devices:
                self.marks.show_devices(spec)
            held = "memory" in layout.controllers or "memory" in layout.v1
            config = json.dumps(init_config(spec, memory_held=held)).encode()
            ends.lease.send(b"C" + config)
            request = launch_request(program, spec, decoys, user=user, tasks=leaf.tasks())
            monitor, ends.monitor_pidfd = self._launcher.launch(
                request, theirs + ([leaf.fd] if leaf.fd >= 0 else []), may=lambda: self._halts == halts
            )
        except BaseException:
            cell.close()
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        return self._park(cell, monitor, user, halts)

    def _park(self, cell: Cell, monitor: int, user: int, halts: int) -> BubblewrapParked:
        """Wait until init says that everything is applied."""
        try:
            init, word = _first_word(cell)
            cell.ends.init_pidfd = os.pidfd_open(init)
            cell.namespace = process_namespace(Path(f"/proc/{init}"))
            cell.init, cell.keepers = init, frozenset((init, monitor))
            if cell.leaf.folder is not None and not cell.leaf.holds(init):
                raise Unavailable("the sandbox is outside its cgroup", help="this must not be; please report it")
            cell.decoys.arm()
        except OSError as error:
            cell.close()
            raise Unavailable(
                f"the sandbox went away while it was built: {error}", help="see `keyturn doctor`"
            ) from error
        except BaseException:
            cell.close()
            raise
        digest = digest_of(seccomp.for_this_machine())
        subject = Subject(
            spec=cell.spec, leaf=cell.leaf, init=init, monitor=monitor, user=user or os.geteuid(),
            backend=self._version(), filter_digest=digest, landlock_abi=int(str(word["landlock_abi"])),
            weaker=self.weaker() + self._lacking(cell.spec, word), program=self.program(),
        )  # fmt: skip  # who, where, what
        return BubblewrapParked(cell, subject, Tier.T1 if subject.weaker else Tier.T2, lambda: self._halts == halts)

    def _version(self) -> str:
        if not hasattr(self, "_known_version"):
            ran = subprocess.run([self.program(), "--version"], capture_output=True, text=True, check=False)
            self._known_version = ran.stdout.strip()
        return self._known_version

    def _forget(self, name: str) -> None:
        self._live.pop(name, None)

    # -- stopping

    def _kill_all(self) -> bool:
        """One write kills all that we ever started; sandboxes without a cgroup are killed one by one."""
        try:
            written = self._kill_fd >= 0 and os.write(self._kill_fd, b"1") == 1
        except OSError:
            written = False
        each = [cell.kill() for cell in list(self._live.values())]
        return written or all(each)

    def _behind(self, also: Callable[[], None]) -> None:
        """Strike what else is to die, then the launcher, and once it is gone whatever it made after the kill."""
        also()
        if self._launcher.strike(LAUNCHER_SECONDS_MAX):
            self._kill_all()

    def may_kill(self) -> str:
        """Why the kill of everything could not be written now; empty where it could."""
        root = self.layout().root
        if root is None:
            return "there is no cgroup of ours, so sandboxes are killed one by one"
        try:
            os.close(os.open(root / "cgroup.kill", os.O_WRONLY | os.O_CLOEXEC))
        except OSError as error:
            return f"the kernel's kill file cannot be opened: {error.strerror}"
        return ""

    def halt_all(self, why: str, also: Callable[[], None] = lambda: None) -> Receipt:
        """Stop every live sandbox, from any thread."""
        self._halts += 1
        cells = list(self._live.values())
        for cell in cells:
            cell.halted = True
        root = self._layout.root if self._layout is not None else None
        watched = [cell.watch() for cell in cells]
        asked = (lambda: populated(root)) if root is not None else ((lambda: False) if not cells else None)
        alive = (lambda: processes(root)) if root is not None else list[int]
        target = Target(
            _scope(cells),
            self._kill_all,
            tuple(fd for inits, _ in watched for fd in inits),
            asked,
            alive,
            behind=lambda: self._behind(also),
            unknown=lambda: (*dict.fromkeys(line for _, unseen in watched for line in unseen), *self.marks.devices()),
        )
        try:
            receipt = stop(target, why)
            self.marks.after(receipt, root)
        finally:  # or the clock of subjects would stand still for ever
            self._freezer.end()
        return receipt

    def freeze(self, seconds: float) -> Held:
        """Hold every live sandbox still."""
        return self._freezer.freeze(seconds)

    def thaw(self) -> None:
        """Let every one go on."""
        self._freezer.thaw()

    def look(self) -> tuple[Look, ...]:
        """What lives now."""
        return self._freezer.look()

    def sweep(self, also: Callable[[], None] = lambda: None) -> Receipt:
        """Kill and receipt what an earlier governor left behind, in whatever session; only before the first launch."""
        invariant(not self._live, "a sweep comes before the first launch")
        layout, known = self.layout(), whereabouts.read(self.run_root, self.name)
        others = known.others(layout.root)
        places = others if layout.root is None else (layout.root, *others)
        inits = tuple(fd for pid in whereabouts.living(places) if (fd := _pidfd(pid)) is not None)
        blind = (
            layout.root is None and self.marks.traces() and (not known.places or whereabouts.NOWHERE in known.places)
        )
        target = Target(
            scope="what an earlier governor left in our own cgroup",
            kill=lambda: whereabouts.kill(others) & self._kill_all(),
            inits=inits,
            populated=None if blind else lambda: any(populated(place) for place in places),
            processes=lambda: whereabouts.living(places),
            behind=lambda: self._behind(also),
            unknown=self.marks.devices,
        )
        receipt = stop(target, "start")
        self.marks.after(receipt, layout.root)
        self._freezer.end()  # an earlier governor may have died while all was held still
        self._tidy(layout)
        whereabouts.forget(self.run_root, others)
        return receipt

    def _tidy(self, layout: Layout) -> None:
        """Remove leaves and run folders that no live sandbox uses."""
        for place in [place for place in (layout.root, *layout.v1.values()) if place is not None]:
            for entry in [e for e in os.scandir(place) if e.is_dir(follow_symlinks=False) and e.name not in self._live]:
                remove(Path(entry.path))
        if self.run_root.is_dir():
            for child in self.run_root.iterdir():
                if child.name.startswith(("improve-", "answer-", "drill-")) and child.name not in self._live:
                    shutil.rmtree(child, ignore_errors=True)

    def close(self) -> None:
        """Halt what is live and give everything back."""
        for cell in list(self._live.values()):
            cell.close()
        if self._layout is not None:
            self._freezer.end()
        self._launcher.close()
        if self._kill_fd >= 0:
            os.close(self._kill_fd)
            self._kill_fd = -1
        if self._layout is not None:
            for place in [place for place in (self._layout.root, *self._layout.v1.values()) if place is not None]:
                remove(place)
            if not self.marks.unproven:
                whereabouts.leave(self.run_root, self.name, self._layout.root)
            self._layout = None


def _scope(cells: Iterable[Cell]) -> str:
    """The sandboxes in words: how many, and what for."""
    purposes = Counter(str(cell.spec.purpose) for cell in cells)
    total = sum(purposes.values())
    parts = ", ".join(f"{number} {purpose}" for purpose, number in sorted(purposes.items()))
    return f"{total} {'sandbox' if total == 1 else 'sandboxes'} of this governor{f' ({parts})' if parts else ''}"


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _open_ends(spec: Spec) -> tuple[Ends, list[int]]:
    """The governor's ends, and what the launcher is handed: lease, stdin, stdout, stderr, setup, filter."""
    lease, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    lease.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    setup, setup_far = os.pipe()
    stderr, stderr_far = os.pipe()
    if spec.purpose == "answer":
        stdin_far, stdin = os.pipe()
        stdout, stdout_far = os.pipe()
    else:
        stdin_far, stdin = os.open(os.devnull, os.O_RDONLY), -1
        stdout, stdout_far = -1, os.dup(stderr_far)
    filter_fd = os.memfd_create("keyturn-filter")
    os.write(filter_fd, seccomp.for_this_machine())
    os.lseek(filter_fd, 0, os.SEEK_SET)
    for fd in (stdin, stdout, stderr, setup):
        if fd >= 0:
            os.set_blocking(fd, False)
    theirs = [far.detach(), stdin_far, stdout_far, stderr_far, setup_far, filter_fd]
    return Ends(lease, stdin, stdout, stderr, setup), theirs


def _first_word(cell: Cell) -> tuple[int, dict[str, object]]:
    """Init's word that it is parked, and its process id as the kernel vouches for it; takes in `/out` on the way."""
    cell.ends.lease.settimeout(PARK_SECONDS_MAX)
    try:
        word, pid = _hear(cell.ends)
        if word == b"O":
            word, pid = _hear(cell.ends)
    except (TimeoutError, ConnectionResetError):
        word, pid = b"", 0
    cell.ends.lease.settimeout(None)
    if word[:1] != b"P" or pid <= 0:
        try:
            said = os.read(cell.ends.setup, 4096).decode(errors="replace").strip()
        except BlockingIOError:
            said = f"nothing was said within {PARK_SECONDS_MAX:.0f} seconds"
        why = said or "it ended without a word"
        raise Unavailable(f"the sandbox could not be built: {why}", help="see `keyturn doctor`")
    return pid, json.loads(word[1:])


def _hear(ends: Ends) -> tuple[bytes, int]:
    """One word from the lease and who said it; a descriptor that comes along is `/out`."""
    word, ancillary, _, _ = ends.lease.recvmsg(4096, socket.CMSG_SPACE(12) + socket.CMSG_SPACE(4))
    pid = 0
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            ends.out = int.from_bytes(data[:4], sys.byteorder)
            os.set_inheritable(ends.out, False)
        elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid = int.from_bytes(data[:4], sys.byteorder)
    return word, pid
