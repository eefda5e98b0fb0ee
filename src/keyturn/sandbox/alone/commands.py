# ruff: noqa: PTH103, PTH118, PTH120, PTH123, PTH208 - pathlib would slow what every command waits for
"""The agent: runs one command after another in a sandbox that lives on, for a caller who is not a program of ours.

Run alone inside as `python -I -S commands.py FOLDER`. Frames come on its standard input and go to its standard output:
two lengths, a head of JSON, a body of bytes. Commands bear the same user as it does, so they may kill it, and then the
sandbox is lost; but none holds its pipes or may look into its memory, so none can speak for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import json
import os
import selectors
import signal
import stat
import struct
import subprocess
import sys
import time
from collections import deque
from typing import Any

PR_SET_DUMPABLE = 4
HEAD = struct.Struct(">II")
HEAD_BYTES_MAX = 32 << 20
BODY_BYTES_MAX = 1 << 20
QUEUE_BYTES = 2 << 20
"""How much may wait to be sent before the next piece of a file is read."""

AFTER_EXIT_SECONDS = 0.2
"""How long the streams of a command that has ended are still read, where something that it left holds them."""

KILL_ROUNDS_MAX = 50
TAG = "KEYTURN_COMMAND"


class Tail:
    """The last bytes of a stream, at most so many."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max, self.kept, self.cut = bytes_max, bytearray(), False

    def add(self, data: bytes) -> None:
        """Keep it, and let go of what is too old, not at every byte."""
        self.kept += data
        if len(self.kept) > 2 * self.bytes_max:
            self.trim()

    def trim(self) -> bytearray:
        """What is kept in the end."""
        over = len(self.kept) - self.bytes_max
        if over > 0:
            self.cut = True
            del self.kept[:over]
        return self.kept


class Command:
    """One command that runs, and what it was given and has said."""

    def __init__(self, number: int, order: dict[str, Any], process: Any) -> None:
        self.number, self.process, self.pidfd = number, process, os.pidfd_open(process.pid)
        self.deadline = time.monotonic() + order["seconds"] if order["seconds"] else None
        self.late = False
        self.exited_at: float | None = None
        self.input: deque[bytes] = deque()
        self.input_ends = False
        self.tails = {1: Tail(order["bytes_max"]), 2: Tail(order["bytes_max"])}
        self.open: dict[int, Any] = {1: process.stdout, 2: process.stderr}

    def is_over(self, now: float) -> bool:
        """Whether there is nothing left to wait for."""
        return self.exited_at is not None and (not self.open or now >= self.exited_at + AFTER_EXIT_SECONDS)

    def next_at(self) -> float | None:
        """When it must be looked at again, whatever happens."""
        return self.deadline if self.exited_at is None else self.exited_at + AFTER_EXIT_SECONDS


def told(pid: str, name: str) -> bytes:
    """What the kernel tells of a process; nothing where it is gone."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


def family(root: int, number: int) -> set[int]:
    """Every living process of a command: of its session, below one of those, or with its mark."""
    found, seen = set[int](), dict[int, tuple[int, int, str]]()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        words = told(pid, "stat").rpartition(b")")[2].split()
        if words and words[0] not in {b"Z", b"X"}:
            seen[int(pid)] = (int(words[1]), int(words[3]), pid)
    grew, mark = True, f"{TAG}={number}".encode()
    while grew:
        new = set(seen) - found
        new = {p for p in new if root in {p, seen[p][1]} or seen[p][0] in found or mark in told(seen[p][2], "environ")}
        found, grew = found | new, bool(new)
    return found - {1, os.getpid()}


def kill(root: int, number: int) -> None:
    """Kill all of a command, again and again until none is seen any more."""
    for _ in range(KILL_ROUNDS_MAX):
        if not (living := family(root, number)):
            return
        for pid in living:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


class Agent:
    """What the agent knows while it serves."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.selector = selectors.DefaultSelector()
        self.received = bytearray()
        self.queue: deque[memoryview] = deque()
        self.queued = 0
        self.commands: dict[int, Command] = {}
        self.readers: dict[int, tuple[int, int]] = {}
        self.writers: dict[int, int] = {}

    # -- frames

    def say(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Put one frame into the queue."""
        text = json.dumps(head).encode()
        frame = HEAD.pack(len(text), len(body)) + text + body
        if not self.queue:
            self.selector.register(1, selectors.EVENT_WRITE, self.send)
        self.queue.append(memoryview(frame))
        self.queued += len(frame)

    def failed(self, number: int, error: Exception, at: str) -> None:
        """Say that something could not be done, and why; of what cannot be a path, that it is not there."""
        if number in self.writers:
            os.close(self.writers.pop(number))
        known = isinstance(error, OSError) and error.errno
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self.say({"id": number, "errno": known or errno.ENOENT, "why": why, "at": at})

    def send(self) -> None:
        """Write what the pipe takes."""
        try:
            while self.queue:
                sent = os.write(1, self.queue[0])
                self.queued -= sent
                if sent == len(self.queue[0]):
                    self.queue.popleft()
                else:
                    self.queue[0] = self.queue[0][sent:]
        except BlockingIOError:
            return
        self.selector.unregister(1)

    def receive(self) -> None:
        """Read what came, and do what is asked for; the end of it is the end of us."""
        try:
            data = os.read(0, BODY_BYTES_MAX)
        except BlockingIOError:
            return
        if not data:
            os._exit(0)
        self.received += data
        while len(self.received) >= HEAD.size:
            head, body = HEAD.unpack_from(self.received)
            if head > HEAD_BYTES_MAX or body > BODY_BYTES_MAX:
                os._exit(4)
            end = HEAD.size + head + body
            if len(self.received) < end:
                return
            order = json.loads(self.received[HEAD.size : HEAD.size + head])
            try:
                ORDERS[order["do"]](self, order.get("id", 0), order, bytes(self.received[HEAD.size + head : end]))
            except (OSError, ValueError) as error:
                self.failed(order["id"], error, order["do"])
            del self.received[:end]

    # -- orders

    def ping(self, number: int, order: dict[str, Any], body: bytes) -> None:
        """Show that we are there."""
        self.say({"pong": True})

    def execute(self, number: int, order: dict[str, Any], body: bytes) -> None:
        """Start a command in a session of its own; it gets its three streams and nothing else of ours."""
        folder = os.path.join(self.folder, order["folder"])
        try:
            os.close(os.open(folder, os.O_PATH | os.O_DIRECTORY))
        except (OSError, ValueError) as error:
            self.failed(number, error, "folder")
            return
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            order["command"], stdin=pipe if order["input"] else subprocess.DEVNULL, stdout=pipe, stderr=pipe,
            cwd=folder, env={**order["environment"], TAG: str(number)}, start_new_session=True, bufsize=0,
        )  # fmt: skip  # streams in one row
        command = self.commands[number] = Command(number, order, process)
        self.selector.register(command.pidfd, selectors.EVENT_READ, lambda: self.ended(command))
        for name, stream in list(command.open.items()):
            os.set_blocking(stream.fileno(), False)
            self.selector.register(stream, selectors.EVENT_READ, functools.partial(self.hear, command, name))
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)

    def data(self, number: int, order: dict[str, Any], body: bytes) -> None:
        """The next part of a command's input or of a file; what nobody waits for any more is dropped."""
        if number in self.writers:
            view = memoryview(body)
            while view:
                view = view[os.write(self.writers[number], view) :]
        elif number in self.commands:
            command = self.commands[number]
            if not command.input:
                self.feeds(command, yes=True)
            if not command.input_ends:
                command.input.append(body)

    def end(self, number: int, order: dict[str, Any], body: bytes) -> None:
        """A command's input or a file is whole."""
        if number in self.writers:
            os.close(self.writers.pop(number))
            self.say({"id": number, "done": True})
        elif number in self.commands:
            command = self.commands[number]
            command.input_ends = True
            if not command.input:
                self.close_input(command)

    def abandon(self, number: int, order: dict[str, Any], body: bytes) -> None:
        """Nobody waits for it any more."""
        if number in self.commands:
            kill(self.commands[number].process.pid, number)
        if number in self.readers:
            os.close(self.readers.pop(number)[0])
        if number in self.writers:
            os.close(self.writers.pop(number))

    def open_file(self, path: str, flags: int) -> int:
        """A regular file and nothing else: behind a link may lie a pipe, and one of those is our own voice."""
        fd = os.open(os.path.join(self.folder, path), flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        kind = os.fstat(fd).st_mode
        if stat.S_ISREG(kind):
            return fd
        os.close(fd)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, "is a directory")
        raise PermissionError(errno.EACCES, "is no regular file")

    def read(self, number: int, order: dict[str, Any], body: bytes) -> None:
        """Begin to send a file."""
        self.readers[number] = (self.open_file(order["path"], os.O_RDONLY), order["bytes_max"])

    def write(self, number: int, order: dict[str, Any], body: bytes) -> None:
        """Begin to write a file, with the folders that it lies in."""
        os.makedirs(os.path.dirname(os.path.join(self.folder, order["path"])), exist_ok=True)
        self.writers[number] = self.open_file(order["path"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    # -- what goes on

    def feeds(self, command: Command, *, yes: bool) -> None:
        """Watch whether a command takes more input, or stop watching."""
        stdin = command.process.stdin
        if stdin is None or stdin.closed:
            return
        if yes:
            self.selector.register(stdin, selectors.EVENT_WRITE, lambda: self.feed(command))
        else:
            self.selector.unregister(stdin)

    def close_input(self, command: Command) -> None:
        """Let the command see the end of its input."""
        if command.process.stdin is not None:
            command.process.stdin.close()

    def feed(self, command: Command) -> None:
        """Hand on what the command takes of its input."""
        stdin = command.process.stdin
        try:
            while command.input:
                sent = os.write(stdin.fileno(), command.input[0])
                command.input[0] = command.input[0][sent:]
                if not command.input[0]:
                    command.input.popleft()
        except BlockingIOError:
            return
        except OSError:  # it has closed its input: nothing more is wanted
            command.input.clear()
            command.input_ends = True
        self.feeds(command, yes=False)
        if command.input_ends:
            self.close_input(command)

    def hear(self, command: Command, name: int) -> None:
        """Keep what a command says."""
        stream = command.open[name]
        try:
            data = os.read(stream.fileno(), BODY_BYTES_MAX)
        except BlockingIOError:
            return
        if data:
            command.tails[name].add(data)
        else:
            self.selector.unregister(stream)
            stream.close()
            del command.open[name]

    def ended(self, command: Command) -> None:
        """The command's own process has ended."""
        if command.process.poll() is not None:
            self.selector.unregister(command.pidfd)
            os.close(command.pidfd)
            command.exited_at = time.monotonic()

    def tell(self, command: Command) -> None:
        """Send what a command said and how it ended, and let go of it."""
        for name in list(command.open):
            stream = command.open.pop(name)
            self.selector.unregister(stream)
            stream.close()
        if command.input:
            self.feeds(command, yes=False)
        self.close_input(command)
        for name, tail in command.tails.items():
            kept = tail.trim()
            for start in range(0, len(kept), BODY_BYTES_MAX):
                self.say({"id": command.number, "stream": name}, bytes(kept[start : start + BODY_BYTES_MAX]))
        del self.commands[command.number]
        cut = [name for name, tail in command.tails.items() if tail.cut]
        self.say({"id": command.number, "code": command.process.returncode, "late": command.late, "cut": cut})

    def pump(self) -> None:
        """Send further pieces of the files that are being read, as far as the queue has room."""
        for number in list(self.readers):
            while self.queued < QUEUE_BYTES and number in self.readers:
                fd, before = self.readers[number]
                try:
                    piece = os.read(fd, BODY_BYTES_MAX)
                except OSError as error:
                    os.close(self.readers.pop(number)[0])
                    self.failed(number, error, "read")
                    break
                left = before - len(piece)
                self.readers[number] = (fd, left)
                if not piece or left < 0:
                    os.close(self.readers.pop(number)[0])
                    self.say({"id": number, "done": left >= 0})
                else:
                    self.say({"id": number, "stream": 1}, piece)

    def look(self) -> float | None:
        """See to deadlines and ends; how long nothing further is due."""
        now = time.monotonic()
        for command in list(self.commands.values()):
            if command.exited_at is None and command.deadline is not None and now >= command.deadline:
                command.late, command.deadline = True, None
                kill(command.process.pid, command.number)
            if command.is_over(now):
                self.tell(command)
        due = [at for command in self.commands.values() if (at := command.next_at()) is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def serve(self) -> None:
        """Serve until the caller is gone."""
        for fd in (0, 1):
            os.set_blocking(fd, False)
        self.selector.register(0, selectors.EVENT_READ, self.receive)
        self.say({"pong": True})
        while True:
            self.pump()
            for key, _ in self.selector.select(self.look()):
                if key.fd in self.selector.get_map():
                    key.data()


ORDERS = {name: getattr(Agent, name) for name in ("ping", "execute", "data", "end", "abandon", "read", "write")}
"""What may be asked for."""


def main() -> None:
    """Become undumpable, and serve; a signal that may be caught is none of ours."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        os._exit(3)
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE}:
        signal.signal(number, lambda *_: None)  # not ignored: commands would inherit that
    os.makedirs(sys.argv[1], exist_ok=True)
    Agent(sys.argv[1]).serve()


if __name__ == "__main__":
    main()
