# ruff: noqa: PTH101, PTH116, PTH123, S606 - importing pathlib would slow every launch; turning into the subject is what this is for
"""PID 1 of the sandbox: holds the lease, starts the subject, and by ending lets the kernel kill all of it.

Run alone inside as `python -I -S init.py`, so it imports nothing of ours. It never listens to the subject: the only
voice is the lease socket, and every word on it but *go*, *begin* and *renew*, its end, or silence means exit.

Where it serves programs, one after another, it loads our runner once and each program's process is a fork of it, under
everything that a subject is under; between two of them *kill* and *next* are words too. What a program does to its own
memory dies with it. After *kill* nothing lives here but init, and the writable folders are as they were, or init exits.
"""

from __future__ import annotations

import _json  # the C halves of these three: all of `json`, `signal` and `socket` would be a third of a launch
import _signal as signal  # type: ignore[import-not-found]  # it comes without types
import _socket as socket
import ctypes
import gc
import itertools
import os
import resource
import select
import struct
import sys
import time
import types

LEASE_FD = 3
STDIO_FDS = (5, 6, 7)
"""Where the subject's own standard streams wait until it starts; the monitor outside closes its copies."""

WRITABLE = ("/tmp", "/dev/shm")  # noqa: S108 - the sandbox's own
ENTRIES_MAX = 1000
"""How much one program may leave in the writable folders and yet have the next one run here."""

CLEAR_SECONDS_MAX = 0.2
CONFIG_BYTES_MAX = 120_000
CLOCK_BOOTTIME = 7
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
FAILED_BEFORE_EXEC = 126

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


class Ended(Exception):
    """The lease is over; the word says why."""


def syscall(number: int, *arguments: object) -> int:
    """One raw system call; raises `OSError`."""
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"system call {number}")
    return result


def timer() -> int:
    """A timer on the clock that suspension does not stop, not yet set."""
    fd = int(libc.timerfd_create(CLOCK_BOOTTIME, os.O_CLOEXEC | os.O_NONBLOCK))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create failed")
    return fd


def set_timer(fd: int, milliseconds: int) -> None:
    """Let the timer fire once, so many milliseconds from now."""
    value = struct.pack("qqqq", 0, 0, milliseconds // 1000, milliseconds % 1000 * 1_000_000)
    if libc.timerfd_settime(fd, 0, value, None):
        raise OSError(ctypes.get_errno(), "timerfd_settime failed")


def timer_left(fd: int) -> int:
    """How many milliseconds are left until the timer fires; 0 where it is not set."""
    value = ctypes.create_string_buffer(32)
    if libc.timerfd_gettime(fd, value):
        raise OSError(ctypes.get_errno(), "timerfd_gettime failed")
    seconds, nanoseconds = struct.unpack("qqqq", value.raw)[2:]
    return int(seconds * 1000 + -(-nanoseconds // 1_000_000))


def landlock_abi() -> int:
    """The Landlock interface of this kernel; 0 where there is none."""
    try:
        return syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    except OSError:
        return 0


def restrict(rules: list[list[object]]) -> None:
    """Confine this process for ever to the (path, rights) of `rules`: no network, no signal and no socket outwards."""
    abi = landlock_abi()
    if not abi:
        return
    known = (1 << (13 if abi < 2 else 14 if abi < 3 else 15 if abi < 5 else 16)) - 1
    words = [known] + ([3] if abi >= 4 else []) + ([3] if abi >= 6 else [])
    attribute = struct.pack(f"{len(words)}Q", *words)
    ruleset = syscall(LANDLOCK_CREATE, attribute, ctypes.c_size_t(len(attribute)), ctypes.c_uint(0))
    for path, rights in rules:
        fd = os.open(str(path), os.O_PATH | os.O_CLOEXEC)
        entry = struct.pack("=Qi", int(str(rights)) & known, fd)
        syscall(LANDLOCK_ADD, ctypes.c_int(ruleset), ctypes.c_int(1), entry, ctypes.c_uint(0))
        os.close(fd)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs could not be set")
    syscall(LANDLOCK_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint(0))
    os.close(ruleset)


def confine(config: dict[str, object], streams: tuple[int, ...]) -> None:
    """Put this child under everything that a subject is under, with these as its standard streams and nothing else."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    for target, fd in enumerate(streams):
        os.dup2(fd, target)
    os.closerange(3, 1 << 16)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:  # the kernel shall take the subject before its init
            file.write("500")
    except OSError:
        pass
    os.chdir(str(config["folder"]))
    for number, value in config["rlimits"]:  # type: ignore[attr-defined]  # plain JSON, made by our own launcher
        resource.setrlimit(number, (value, value))
    restrict(config["landlock"])  # type: ignore[arg-type]  # plain JSON, made by our own launcher


def turn(config: dict[str, object]) -> None:
    """Turn this child into the subject; does not return."""
    argv = list(map(str, config["argv"]))  # type: ignore[call-overload]  # plain JSON, made by our own launcher
    os.execve(argv[0], argv, dict(config["environment"]))  # type: ignore[call-overload]  # plain JSON again


def load(file: str) -> types.ModuleType:
    """Our runner as a module of this process, with what it imports ahead; the next programs start from this copy."""
    import importlib.util
    import site

    site.main()  # `-S` kept it from the libraries of the runtime
    spec = importlib.util.spec_from_file_location("__keyturn_runner__", file)
    runner = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]  # the file is there, or nothing works
    spec.loader.exec_module(runner)  # type: ignore[union-attr]  # a file has a loader
    runner.warm_up()
    rehearse(runner)
    if len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208 - see the top
        raise Ended("threads")  # a fork takes one thread along, and whatever the others hold is held for ever
    gc.collect()
    gc.freeze()
    return runner


def rehearse(runner: types.ModuleType) -> None:
    """Let the runner answer once, so that a program's first answer costs no more than its others; nothing is kept."""
    program = runner.Program("rehearsal.py", runner.Signals())
    program.source = "def same(x):\n    return x\n"
    program.answer([{"call": "same", "args": '[[[1,0.5,"x",null]],{"dict":[]}]'}])
    del sys.modules[runner.NAME]
    runner.compiled.cache_clear()


def run(runner: types.ModuleType, config: dict[str, object]) -> None:
    """Be the runner in this child as if it had been executed; does not return."""
    if libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0):  # as after an execution; what is in this memory is no secret
        raise OSError(ctypes.get_errno(), "the program could not be made like any other")
    os.environ.clear()
    os.environ.update(config["environment"])  # type: ignore[call-overload]  # plain JSON, made by our own launcher
    file = config["serves"]
    config.clear()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    runner.__name__, sys.modules["__main__"], sys.argv = "__main__", runner, [str(file)]
    rehearse(runner)  # this memory is a copy still to be made, which nobody need wait for later
    try:
        runner.main()
    finally:  # whatever came up ends it here, told as it would be told of a script
        sys.excepthook(*sys.exc_info())  # there is one: the runner itself never comes back
        os._exit(1)


def look_at(place: str) -> tuple[int, ...]:
    """What a writable folder shows to a program before anything lies in it."""
    status, room = os.stat(place), os.statvfs(place)
    return status.st_mode, status.st_atime_ns, status.st_mtime_ns, room.f_bfree, room.f_ffree


def empty(place: str, before: tuple[int, ...]) -> None:
    """Remove all that lies in a folder, and leave it as it was; raises what it meets that is not as it expects.

    Nobody else lives here now. Folders are moved up to the top before they are looked into, so that none is too deep.
    """
    os.chmod(place, 0o700)
    top = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    waiting: list[str] = []
    names = map(".keyturn-{}".format, itertools.count())
    left = ENTRIES_MAX

    def take(folder: int) -> None:
        nonlocal left
        with os.scandir(folder) as entries:
            found = list(itertools.islice(entries, left + 1))
        left -= len(found)
        if left < 0:
            raise Ended("doubt")
        for entry in found:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=folder)
                continue
            os.chmod(entry.name, 0o700, dir_fd=folder)
            waiting.append(next(names))
            os.rename(entry.name, waiting[-1], src_dir_fd=folder, dst_dir_fd=top)

    take(top)
    while waiting:
        name = waiting.pop()
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
        take(folder)
        os.close(folder)
        os.rmdir(name, dir_fd=top)
    os.close(top)
    os.chmod(place, before[0] & 0o7777)
    os.utime(place, ns=(before[1], before[2]))
    if look_at(place) != before:  # something that nobody can name any more still holds on to memory
        raise Ended("doubt")


class Init:
    """What init knows while it governs."""

    def __init__(self, config: dict[str, object], lease: socket.socket, wake: socket.socket) -> None:
        self.config, self.lease, self.wake = config, lease, wake
        self.heartbeat, self.wall = timer(), timer()
        self.main = 0
        self.told = False
        self.runner: types.ModuleType | None = None
        self.places: dict[str, tuple[int, ...]] = {}
        self.held_until = 0.0
        self.wall_left = 0

    def milliseconds(self, name: str) -> int:
        """A length from the config."""
        return int(str(self.config[name]))

    def start(self, streams: tuple[int, ...]) -> None:
        """Start the subject; this process lets go of the subject's streams."""
        pid = os.fork()
        if not pid:
            try:
                self.lease.close()
                self.wake.close()
                confine(self.config, streams)
                if self.runner is not None:
                    run(self.runner, self.config)
                else:
                    turn(self.config)
            finally:  # whatever went wrong, this must not run on as a second init
                why = f"keyturn: the subject could not be started: {sys.exc_info()[1]}\n"
                os.write(2, why.encode(errors="replace"))
                os._exit(FAILED_BEFORE_EXEC)
        for fd in streams:
            os.close(fd)
        self.main, self.told = pid, False

    def reap(self) -> bool:
        """Take in every child that has ended, and tell the governor of the main one; whether there are others left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.main and not self.told:
                self.told = True
                word = (os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime)
                self.lease.send(b'E{"code": %d, "cpu": %.6f}' % word)

    def clear(self) -> None:
        """End everything but ourselves, and leave no trace of it; raises `Ended` where that takes long."""
        set_timer(self.wall, 0)
        try:
            os.kill(-1, signal.SIGKILL)  # spares the one who sends it, and nobody who is being forked
        except ProcessLookupError:
            pass
        until = time.monotonic() + CLEAR_SECONDS_MAX
        while self.reap():
            if time.monotonic() > until:
                raise Ended("doubt")
            if select.select([self.wake], [], [], 0.005)[0]:
                self.wake.recv(4096)
        for place, before in self.places.items():
            empty(place, before)
        self.main = 0
        self.lease.send(b"D")

    def hold(self, milliseconds: int) -> None:
        """Expect to be held still, for so long at the most; what runs on instead has the lease that it has now."""
        self.held_until = time.clock_gettime(time.CLOCK_BOOTTIME) + milliseconds / 1000
        self.wall_left = timer_left(self.wall)
        if select.select([self.wall], [], [], 0)[0]:  # it fired while the word was on its way
            raise Ended("wall")
        set_timer(self.wall, 0)
        set_timer(self.heartbeat, self.milliseconds("lease_ms"))
        self.lease.send(b"H")

    def go_on(self) -> None:
        """Go on only where the word for it lies there already, and in time; raises `Ended` for everything else."""
        try:
            word = self.lease.recv(16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            word = b""
        if word != b"T" or time.clock_gettime(time.CLOCK_BOOTTIME) > self.held_until:
            raise Ended("lease")
        set_timer(self.heartbeat, self.milliseconds("lease_ms"))
        set_timer(self.wall, self.wall_left)
        self.held_until, self.wall_left = 0.0, 0

    def heed(self, word: bytes, fds: list[int]) -> None:
        """Do what the governor says."""
        waits, serves = self.config["waits"], self.config["serves"]
        if word == b"G" and not self.main:
            if not waits:
                set_timer(self.wall, self.milliseconds("wall_ms"))
            if serves:
                self.runner = load(str(serves))
                self.places = {place: look_at(place) for place in WRITABLE}
            self.start(STDIO_FDS)
        elif word[:1] == b"B" and self.main and waits:
            set_timer(self.wall, max(1, min(int(word[1:]), self.milliseconds("wall_ms"))))
        elif word == b"K" and self.main and serves:
            self.clear()
        elif word == b"N" and not self.main and self.runner is not None and len(fds) == len(STDIO_FDS):
            self.start(tuple(fds))
        elif word[:1] == b"F":
            self.hold(int(word[1:]))
            return
        elif word != b"R":
            raise Ended("closed")
        set_timer(self.heartbeat, self.milliseconds("lease_ms"))

    def govern(self) -> None:
        """Hold the lease until it ends, which it says by raising `Ended`."""
        set_timer(self.heartbeat, self.milliseconds("lease_ms"))
        park(self.config, self.lease)
        poll = select.poll()
        for fd in (self.lease.fileno(), self.heartbeat, self.wall, self.wake.fileno()):
            poll.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self.held_until and ready & {self.lease.fileno(), self.heartbeat}:
                self.go_on()
                continue
            if self.heartbeat in ready or self.wall in ready:
                raise Ended("lease" if self.heartbeat in ready else "wall")
            if self.wake.fileno() in ready:
                self.wake.recv(4096)
                self.reap()
            if self.lease.fileno() in ready:
                self.heed(*heard(self.lease))


def park(config: dict[str, object], lease: socket.socket) -> None:
    """Hand over the folder `/out` where there is one, let go of it, and only then say that everything is applied."""
    if config["out"]:
        out = os.open("/out", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        lease.sendmsg([b"O"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", out))])
        os.close(out)
    lease.send(b'P{"landlock_abi": %d}' % landlock_abi())


def heard(lease: socket.socket) -> tuple[bytes, list[int]]:
    """One word of the governor's, and the descriptors that came with it."""
    word, besides, _, _ = lease.recvmsg(16, socket.CMSG_LEN(4 * len(STDIO_FDS)))
    handed = [data for level, kind, data in besides if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)]
    return word, [fd for data in handed for (fd,) in struct.iter_unpack("i", data[: len(data) // 4 * 4])]


class Reading:
    """How the governor's JSON is read: as `json.loads` does it."""

    strict, object_hook, object_pairs_hook, array_hook = True, None, None, None
    parse_float, parse_int, parse_constant = float, int, None


def told(lease: socket.socket) -> dict[str, object]:
    """What the governor says first."""
    first = lease.recv(CONFIG_BYTES_MAX)
    if first[:1] != b"C":
        raise Ended("closed")
    read = _json.make_scanner(Reading())  # type: ignore[arg-type]  # anything that has these names will do
    config: dict[str, object] = read(first[1:].decode(), 0)[0]
    return config


def main() -> None:
    """Become undumpable before anyone else is here, then hold the lease."""
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        os._exit(3)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wake, waker = socket.socketpair()
    waker.setblocking(False)
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    lease = socket.socket(fileno=LEASE_FD)
    try:
        Init(told(lease), lease, wake).govern()
    except Ended as end:
        lease.setblocking(False)
        try:
            lease.send(b"X" + str(end).encode())
        except OSError:
            pass
    finally:  # any doubt ends the sandbox, and says why to the governor alone
        error = sys.exc_info()[1]
        if error is not None:
            os.write(2, f"keyturn init: {error!r}\n".encode(errors="replace"))
        os._exit(2)


if __name__ == "__main__":
    main()
