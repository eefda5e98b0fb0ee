# ruff: noqa: PTH101, PTH103, PTH120 - as in init.py: importing pathlib would slow every launch
"""PID 1 of a container: what `init.py` is to a sandbox of bubblewrap, spoken over standard input and output.

A container inherits no socket, so lease, files and the subject's streams share the engine's attach stream, in frames: a
big-endian length of 32 bits, one byte that names the frame, the bytes, and a tag that only the two ends can make, for
gVisor lets a subject open the stream of init. The end of that stream, silence for longer than
the lease, or any frame that is not expected means exit, and the kernel then ends everything in the container.

Nothing of the subject's is believed here: it runs as a child, under Landlock and the system call filter that it has
under bubblewrap, and cannot look into this process. Files go out only once nothing but this process lives.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator

from keyturn.sandbox.alone import init
from keyturn.sandbox.alone.surroundings import (
    GOVERNOR,
    IN_WRITTEN,
    INIT,
    PIECE_BYTES,
    TAG_BYTES,
    filter_calls,
    hand_out,
    landlock_rules,
    living,
    look,
    processes,
    tag,
    watch,
)

HEADER = struct.Struct(">IB")
FRAME_BYTES_MAX = 128 * 1024
OUTBOX_BYTES_MAX = 128 * 1024
INPUT_BYTES_MAX = 64 * 1024
"""What the governor may send ahead of the subject's reading; it waits for word of what was taken."""

UNHEARD_MS = 30_000
"""How long a container that nobody has spoken to waits for its first frames."""

CLEAR_SECONDS_MAX = 5.0


class Contained:
    """What init knows while it governs a container."""

    def __init__(self) -> None:
        self.config: dict[str, object] = {}
        self.key, self.said, self.heard = b"", 0, 0
        self.inbox, self.outbox = bytearray(), bytearray()
        self.heartbeat, self.wall = init.timer(), init.timer()
        self.wake, self.waker = socket.socketpair()
        self.main, self.ended, self.told, self.parked = 0, b"", False, False
        self.stdin = self.stdout = self.stderr = self.watch = self.writing = -1
        self.pending = bytearray()
        self.window = 0
        self.names: dict[int, str] = {}
        self.handing: Iterator[tuple[bytes, bytes]] | None = None
        self.handed = False

    # -- frames

    def say(self, kind: bytes, data: bytes | bytearray = b"") -> None:
        """Put one frame out; it leaves when the stream takes it, and nobody here waits for that."""
        frame = HEADER.pack(len(data), kind[0]) + data
        self.outbox += frame + tag(self.key, INIT, self.said, frame)
        self.said += 1
        self.push()

    def push(self) -> None:
        """Write what the stream takes now."""
        try:
            while self.outbox:
                del self.outbox[: os.write(1, self.outbox[:65536])]
        except BlockingIOError:
            return

    def take_in(self) -> None:
        """Read what is there and do what every whole frame says."""
        data = os.read(0, 65536)
        if not data:
            raise init.Ended("closed")
        self.inbox += data
        while len(self.inbox) >= HEADER.size:
            length, kind = HEADER.unpack_from(self.inbox)
            if length > FRAME_BYTES_MAX:
                raise init.Ended("closed")
            size = HEADER.size + length
            if len(self.inbox) < size + TAG_BYTES:
                return
            frame, shown = bytes(self.inbox[:size]), bytes(self.inbox[size : size + TAG_BYTES])
            if shown != tag(self.key, GOVERNOR, self.heard, frame):
                raise init.Ended("closed")
            del self.inbox[: size + TAG_BYTES]
            self.heard += 1
            self.heed(bytes([kind]), frame[HEADER.size :])

    def heed(self, kind: bytes, body: bytes) -> None:
        """Do what the governor says; only *renew*, *go*, *begin* and what comes before them keep the lease."""
        if not self.config:
            if kind != b"C":
                raise init.Ended("closed")
            self.config = json.loads(body)
            self.key = bytes.fromhex(str(self.config.pop("key")))
        elif kind == b"F" and not self.parked:
            self.open(body.decode())
        elif kind == b"f" and self.writing >= 0:
            self.fill(body)
        elif kind == b"L" and not self.parked:
            self.park()
        elif kind == b"G" and self.parked and not self.main:
            self.start()
        elif kind == b"B" and self.main and self.config["waits"]:
            init.set_timer(self.wall, max(1, min(int(body), self.number("wall_ms"))))
        elif not self.aside(kind, body) and kind != b"R":
            raise init.Ended("closed")
        if kind in b"CFfLGBR":
            init.set_timer(self.heartbeat, self.number("lease_ms") if kind in b"LGBR" else UNHEARD_MS)

    def aside(self, kind: bytes, body: bytes) -> bool:
        """Do what is no part of the lease: streams, a count of who lives, the end; whether it was that."""
        if kind == b"I" and self.main:
            self.pending += body
            if len(self.pending) > INPUT_BYTES_MAX:
                raise init.Ended("closed")
            self.feed()
        elif kind == b"W":
            self.window += int(body)
        elif kind == b"Q" and self.main:
            self.say(b"N", json.dumps(living()).encode())
        elif kind == b"K" and self.main and self.handing is None:
            self.clear()
        else:
            return False
        return True

    def number(self, name: str) -> int:
        """A number from the config."""
        return int(str(self.config[name]))

    # -- before the subject

    def open(self, path: str) -> None:
        """Begin a file of the governor's at a place that it named; never over another one."""
        allowed = [str(place) + "/" for key in ("shown", "bait") for place in self.config[key]]  # type: ignore[attr-defined]  # plain JSON, made by our own governor
        if os.path.normpath(path) != path or not path.startswith(tuple(allowed)):
            raise init.Ended("closed")
        self.shut()
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self.writing = os.open(path, flags, 0o600 if self.is_bait(path) else 0o444)

    def is_bait(self, path: str) -> bool:
        """Whether this file is a decoy."""
        return path in [target for _, target in self.config["decoys"]]  # type: ignore[attr-defined]  # plain JSON again

    def fill(self, data: bytes) -> None:
        """Write the next piece of the file that is open."""
        while data:
            data = data[os.write(self.writing, data) :]

    def shut(self) -> None:
        """Close the file that is open."""
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    def park(self) -> None:
        """Close what was laid out to writing, watch the decoys, and say what holds here."""
        self.shut()
        for place in self.config["shown"]:  # type: ignore[attr-defined]  # plain JSON, made by our own governor
            for folder, _, _ in os.walk(str(place), topdown=False):
                try:
                    os.chmod(folder, 0o555)  # noqa: S103 - read-only, for the subject alone lives here
                except OSError:
                    pass  # a cluster owns its folders itself; the attestation says that this is lacking
        self.watch, self.names = watch([(str(n), str(at)) for n, at in self.config["decoys"]])  # type: ignore[attr-defined]  # plain JSON again
        self.parked = True
        self.say(b"P", json.dumps(look() | {"decoys_watched": len(self.names)}).encode())

    # -- the subject

    def start(self) -> None:
        """Start the subject on pipes of its own."""
        if not self.config["waits"]:
            init.set_timer(self.wall, self.number("wall_ms"))
        joined = bool(self.config["joined"])
        (stdin, self.stdin), (self.stderr, stderr) = os.pipe(), os.pipe()
        self.stdout, stdout = os.pipe() if joined else (-1, os.dup(stderr))
        if not joined:
            os.close(self.stdin)
            self.stdin = -1
        pid = os.fork()
        if not pid:
            try:
                words = [str(word) for word in self.config["argv"]]  # type: ignore[attr-defined]  # plain JSON again
                argv = [sys.executable if words[0] == "python3" else words[0], *words[1:]]
                config = self.config | {"landlock": landlock_rules(self.config), "argv": argv}
                os.setsid()  # no signal to its own group may mean init
                init.confine(config, (stdin, stdout, stderr))
                for code in self.config["filters"]:  # type: ignore[attr-defined]  # plain JSON again
                    filter_calls(base64.b64decode(str(code)))
                init.turn(config)
            finally:  # whatever went wrong, this must not run on as a second init
                os.write(2, f"keyturn: the subject could not be started: {sys.exc_info()[1]}\n".encode())
                os._exit(init.FAILED_BEFORE_EXEC)
        for fd in (stdin, stdout, stderr):
            os.close(fd)
        for fd in (self.stdin, self.stdout, self.stderr):
            if fd >= 0:
                os.set_blocking(fd, False)
        self.main = pid

    def feed(self) -> None:
        """Hand the subject what it takes of its input, and tell the governor how much that was."""
        if self.stdin < 0:
            self.pending.clear()
            return
        try:
            took = os.write(self.stdin, self.pending)
        except BlockingIOError:
            return
        except OSError:  # it has closed its input
            os.close(self.stdin)
            self.stdin = -1
            self.say(b"U")
            return
        del self.pending[:took]
        self.say(b"A", b"%d" % took)

    def pass_on(self, kind: bytes) -> bool:
        """Hand on what the subject wrote; whether there may be more at once."""
        fd = self.stdout if kind == b"O" else self.stderr
        room = min(PIECE_BYTES, self.window) if kind == b"O" else PIECE_BYTES
        if fd < 0 or not room or len(self.outbox) >= OUTBOX_BYTES_MAX:
            return False
        try:
            data = os.read(fd, room)
        except BlockingIOError:
            return False
        if kind == b"O":
            self.window -= len(data)
            self.stdout = fd if data else -1
        else:
            self.stderr = fd if data else -1
        if not data:
            os.close(fd)
        self.say(kind, data)
        return bool(data)

    def reap(self) -> bool:
        """Take in every child that has ended; whether others are left. The main one's end is told once."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.main:
                cpu = usage.ru_utime + usage.ru_stime
                word = {"code": os.waitstatus_to_exitcode(status), "cpu": cpu, "left": len(living())}
                self.ended = json.dumps(word).encode()

    def tell(self) -> None:
        """Once the main process has ended and what it said has been handed on, tell how it ended."""
        if not self.ended or self.told:
            return
        while self.pass_on(b"O") or self.pass_on(b"S"):
            pass
        self.told = True
        self.say(b"E", self.ended)

    def notice(self) -> None:
        """Tell of the decoys that were touched."""
        try:
            data = os.read(self.watch, 65536)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            number, mask, _, length = struct.unpack_from("iIII", data, at)
            at += 16 + length
            how = "written" if mask & IN_WRITTEN or number < 0 else "opened"
            for name in self.names.values() if number < 0 else [self.names[number]]:
                self.say(b"Y", json.dumps([name, how]).encode())

    # -- the end

    def clear(self) -> None:
        """End everything but this process, and begin to hand out what lies in `/out`; raises `Ended` on any doubt."""
        init.set_timer(self.wall, 0)
        try:
            os.kill(-1, signal.SIGKILL)  # spares the one who sends it
        except ProcessLookupError:
            pass
        until = time.monotonic() + CLEAR_SECONDS_MAX
        while self.reap() or processes():
            if time.monotonic() > until:
                raise init.Ended("doubt")
            time.sleep(0.002)
        self.handing = hand_out(self.number("out_bytes")) if self.config["out"] else iter([(b"D", b"")])

    def hand_on(self) -> None:
        """Say the next pieces, as far as the stream has room; what the subject said comes first."""
        while self.handing is not None and not self.handed and len(self.outbox) < OUTBOX_BYTES_MAX:
            if self.pass_on(b"S") or self.pass_on(b"O"):
                continue
            kind, data = next(self.handing)
            self.handed = kind == b"D"
            self.say(kind, data)

    def interests(self) -> dict[int, int]:
        """What is waited for now."""
        room = len(self.outbox) < OUTBOX_BYTES_MAX
        wanted = {0: select.POLLIN, self.heartbeat: select.POLLIN, self.wall: select.POLLIN}
        wanted |= {self.wake.fileno(): select.POLLIN}
        wanted |= {1: select.POLLOUT} if self.outbox or (self.handing is not None and not self.handed) else {}
        wanted |= {self.stdin: select.POLLOUT} if self.pending else {}
        wanted |= {self.stdout: select.POLLIN} if room and self.window else {}
        wanted |= {self.stderr: select.POLLIN} if room else {}
        wanted |= {self.watch: select.POLLIN}
        return {fd: events for fd, events in wanted.items() if fd >= 0}

    def govern(self) -> None:
        """Hold the lease until it ends, which it says by raising `Ended`."""
        init.set_timer(self.heartbeat, UNHEARD_MS)
        while True:
            poll = select.poll()
            for fd, events in self.interests().items():
                poll.register(fd, events)
            ready = {fd for fd, _ in poll.poll()}
            if self.heartbeat in ready or self.wall in ready:
                raise init.Ended("lease" if self.heartbeat in ready else "wall")
            self.step(ready)

    def step(self, ready: set[int]) -> None:
        """One round: the governor first, then the subject's end, then its streams."""
        if 0 in ready:
            self.take_in()
        if self.wake.fileno() in ready:
            self.wake.recv(4096)
            self.reap()
        if self.watch in ready:
            self.notice()
        if self.stdin in ready:
            self.feed()
        for kind, fd in ((b"O", self.stdout), (b"S", self.stderr)):
            if fd in ready:
                self.pass_on(kind)
        self.tell()
        self.push()
        self.hand_on()


def main() -> None:
    """Become undumpable before anyone else is here, then hold the lease."""
    if os.getpid() != 1:  # everything that this process may signal is killed at the end: only in a room of its own
        sys.exit("keyturn: contained.py is the first process of a container and of nothing else")
    if init.libc.prctl(init.PR_SET_DUMPABLE, 0, 0, 0, 0):
        os._exit(3)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    held = Contained()
    for end in (held.wake, held.waker):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(held.waker.fileno(), warn_on_full_buffer=False)
    os.set_blocking(1, False)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        held.govern()
    except init.Ended as end:
        try:
            held.say(b"X", str(end).encode())
        except OSError:
            pass
    finally:  # any doubt ends the container, and says why to the governor alone
        error = sys.exc_info()[1]
        if error is not None:
            os.write(2, f"keyturn init: {error!r}\n".encode(errors="replace"))
        os._exit(2)
