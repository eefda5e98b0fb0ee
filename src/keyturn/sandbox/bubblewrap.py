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
import threading
from pathlib import Path

from keyturn.core.errors import Unavailable, invariant
from keyturn.core.terms import Json, Tier
from keyturn.sandbox import seccomp
from keyturn.sandbox.attest import Subject
from keyturn.sandbox.cell import Cell, Ends, process_namespace
from keyturn.sandbox.cgroups import Layout, Leaf, discover, populated, processes, remove
from keyturn.sandbox.command import ALONE, OWN_USERS, check, digest_of, init_config, launch_request, own_digest
from keyturn.sandbox.decoys import Decoys
from keyturn.sandbox.port import Capabilities, Receipt, Runtime, Spec
from keyturn.sandbox.proof import Target, stop
from keyturn.sandbox.running import BubblewrapParked
from keyturn.sandbox.runtime import resolve

PARK_SECONDS_MAX = 15.0
LAUNCHER_BYTES_MAX = 200_000
UNPROVEN = "unproven"
"""A mark in the run folder, holding the machine's boot: a stop was not proven, and no process outlives a boot."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
OUR_PROCESSES = 2
"""Init and the monitor outside, who count in the cgroup and not against the subject."""


class Launcher:
    """The governor's end of `launcher.py`: one small process, started when first needed, and again if it dies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def _start(self) -> socket.socket:
        if self._channel is not None and self._process is not None and self._process.poll() is None:
            return self._channel
        self._close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LAUNCHER_BYTES_MAX * 2)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(ALONE / "launcher.py"), str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),), start_new_session=True, env={},
            )  # fmt: skip  # streams in one row
        ours.settimeout(PARK_SECONDS_MAX)
        self._channel = ours
        return ours

    def launch(self, request: dict[str, Json], fds: list[int]) -> tuple[int, int]:
        """Make one sandbox; its monitor's process id and descriptor. Raises `Unavailable`."""
        with self._lock:
            try:
                channel = self._start()
                socket.send_fds(channel, [json.dumps(request).encode()], fds)
                answer, got, _, _ = socket.recv_fds(channel, 65536, 1)
            except OSError as error:
                self._close()
                raise Unavailable(f"the launcher does not answer: {error}", help="see `keyturn doctor`") from error
        if not got:
            why = json.loads(answer).get("error", "no answer") if answer else "it has ended"
            raise Unavailable(f"the launcher could not start a sandbox: {why}", help="see `keyturn doctor`")
        return int(json.loads(answer)["pid"]), got[0]

    def _close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            try:
                self._process.wait(1)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def close(self) -> None:
        """End it."""
        with self._lock:
            self._close()


class Bubblewrap:
    """The backend. See `port.Backend`."""

    def __init__(self, run_root: Path, *, runtime_cache: Path) -> None:
        self.run_root = run_root.resolve()
        self._cache = runtime_cache
        self._launcher = Launcher()
        self._live: dict[str, Cell] = {}
        self._halts = 0
        self._kill_fd = -1
        self._layout: Layout | None = None
        self._capabilities: Capabilities | None = None
        self._program = ""

    # -- what there is

    def layout(self) -> Layout:
        """Our cgroups, found when first needed."""
        if self._layout is None:
            tag = hashlib.sha256(os.fsencode(self.run_root)).hexdigest()[:12]
            self._layout = discover(tag)
            if self._layout.root is not None:
                self._kill_fd = os.open(self._layout.root / "cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
        return self._layout

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
        """Build a sandbox and park its init."""
        check(spec)
        program, layout, halts = self.program(), self.layout(), self._halts
        name = f"{spec.purpose}-{secrets.token_hex(6)}"
        user = OWN_USERS[0] + secrets.randbelow(OWN_USERS[1] - OWN_USERS[0]) if os.geteuid() == 0 else 0
        folder = self.run_root / name
        with contextlib.ExitStack() as undo:
            folder.mkdir(parents=True, mode=0o700)
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            decoys = Decoys(folder / "decoys", spec.decoys, user or None)
            most = spec.limits.processes_max + OUR_PROCESSES
            leaf = Leaf.make(layout, name, memory_bytes=spec.limits.memory_bytes, processes_max=most)
            undo.callback(leaf.remove)
            ends, theirs = _open_ends(spec)
            undo.pop_all()
        cell = Cell(name, spec, leaf=leaf, ends=ends, decoys=decoys, folder=folder, done=self._forget)
        self._live[name] = cell
        try:
            held = "memory" in layout.controllers or "memory" in layout.v1
            config = json.dumps(init_config(spec, memory_held=held)).encode()
            ends.lease.send(b"C" + config)
            request = launch_request(program, spec, decoys, user=user, tasks=leaf.tasks())
            monitor, ends.monitor_pidfd = self._launcher.launch(request, theirs + ([leaf.fd] if leaf.fd >= 0 else []))
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
            weaker=self.weaker() + (() if word["landlock_abi"] else ("landlock: this kernel has none",)),
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

    def halt_all(self, why: str) -> Receipt:
        """Stop every live sandbox, from any thread."""
        self._halts += 1
        cells = list(self._live.values())
        for cell in cells:
            cell.halted = True
        root = self._layout.root if self._layout is not None else None
        inits = tuple(fd for cell in cells for fd in cell.target().inits)
        asked = (lambda: populated(root)) if root is not None else ((lambda: False) if not cells else None)
        scope = f"{len(cells)} sandboxes of this governor"
        receipt = stop(Target(scope, self._kill_all, inits, asked, lambda: processes(root) if root else []), why)
        self._remember(receipt, root)
        return receipt

    def _remember(self, receipt: Receipt, root: Path | None) -> None:
        """Without a cgroup, what was not proven once stays unproven until the machine has started anew."""
        if root is None and receipt.state != "STOPPED":
            with contextlib.suppress(OSError):  # the kill is done; whoever cannot write here looks again
                (self.run_root / UNPROVEN).write_bytes(BOOT_ID.read_bytes())

    def _traces(self) -> bool:
        """Whether anything may still live that no cgroup would show."""
        if not self.run_root.is_dir():
            return False
        mark = self.run_root / UNPROVEN
        if mark.is_file() and mark.read_bytes() != BOOT_ID.read_bytes():
            mark.unlink()
        return any(self.run_root.iterdir())

    def sweep(self) -> Receipt:
        """Kill and receipt what an earlier governor left behind; only before the first launch."""
        invariant(not self._live, "a sweep comes before the first launch")
        layout = self.layout()
        found = processes(layout.root) if layout.root is not None else []
        inits = tuple(fd for pid in found if (fd := _pidfd(pid)) is not None)
        root = layout.root
        asked = (lambda: populated(root)) if root is not None else (None if self._traces() else lambda: False)
        scope = "what an earlier governor left in our own cgroup"
        alive = (lambda: processes(root)) if root is not None else list[int]
        receipt = stop(Target(scope, self._kill_all, inits, asked, alive), "start")
        self._remember(receipt, root)
        self._tidy(layout)
        return receipt

    def _tidy(self, layout: Layout) -> None:
        """Remove leaves and run folders that no live sandbox uses."""
        for place in [place for place in (layout.root, *layout.v1.values()) if place is not None]:
            for entry in [e for e in os.scandir(place) if e.is_dir(follow_symlinks=False) and e.name not in self._live]:
                remove(Path(entry.path))
        if self.run_root.is_dir():
            for child in self.run_root.iterdir():
                if child.name.startswith(("improve-", "answer-")) and child.name not in self._live:
                    shutil.rmtree(child, ignore_errors=True)

    def close(self) -> None:
        """Halt what is live and give everything back."""
        for cell in list(self._live.values()):
            cell.close()
        self._launcher.close()
        if self._kill_fd >= 0:
            os.close(self._kill_fd)
            self._kill_fd = -1
        if self._layout is not None:
            for place in [place for place in (self._layout.root, *self._layout.v1.values()) if place is not None]:
                remove(place)
            self._layout = None


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
