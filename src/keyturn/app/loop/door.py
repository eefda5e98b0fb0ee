"""The door of a governed loop: one thread, one selector, connections that nobody can stall or flood for the others.

It carries messages and says who went away; what they mean is the business of whoever holds it.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from keyturn.app.loop.inbox import Inbox, Message
from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.core.terms import Json
from keyturn.sandbox.proof import boottime
from keyturn.wire.frames import encode_frame

CONNECTIONS_MAX = 256
READ_BYTES = 65_536
MESSAGES_AT_ONCE = 16
"""How many messages of one connection are taken before the others have their turn."""

OUTBOX_BYTES_MAX = 8 << 20
"""How much may wait for a client that does not read; one that lets more pile up is let go."""

SETTLE_SECONDS = 2.0

Act = Callable[[], None]


@dataclass(slots=True)
class Outgoing:
    """Bytes on their way out, and descriptors of our own that go with the first of them."""

    data: memoryview
    fds: tuple[int, ...] = ()

    def drop(self) -> None:
        """Close the descriptors: they are through, or nobody will take them."""
        for fd in self.fds:
            os.close(fd)
        self.fds = ()


@dataclass(slots=True, eq=False)
class Connection:
    """One client; `closing` ends it once all is sent."""

    socket: socket.socket
    inbox: Inbox
    outbox: deque[Outgoing] = field(default_factory=deque)
    closing: bool = False
    open: bool = True


class Holder(Protocol):
    """Whoever holds the door."""

    def take(self, connection: Connection, message: Message) -> None:
        """A client sent this; `MalformedInput` raised here lets go of that client alone."""

    def gone(self, connection: Connection) -> None:
        """A client went away; nothing can be sent to it any more."""


class Door:
    """Listens on a socket of mode 0600, and watches whatever descriptors its holder asks for; use `opened`."""

    def __init__(self, listener: socket.socket, path: Path, keep_bytes_max: int) -> None:
        self._listener, self._path, self._keep_bytes_max = listener, path, keep_bytes_max
        self._selector = selectors.DefaultSelector()
        self._connections: set[Connection] = set()
        self._eager: set[Connection] = set()
        self.holder: Holder | None = None
        self.watch(listener.fileno(), self._accept)

    @classmethod
    @contextmanager
    def opened(cls, path: Path, *, keep_bytes_max: int) -> Iterator[Door]:
        """The door at this path; raises `Unavailable` when it cannot be made. Leaves nothing behind."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            _bind(listener, path)
        except OSError as fault:
            listener.close()
            raise Unavailable(f"the loop's socket cannot be opened: {fault}", help="see who owns the folder") from fault
        door = cls(listener, path, keep_bytes_max)
        try:
            yield door
        finally:
            door.close()

    def watch(self, fd: int, act: Act, *, writable: bool = False) -> None:
        """Call `act` whenever this descriptor is readable, or writable."""
        self._selector.register(fd, selectors.EVENT_WRITE if writable else selectors.EVENT_READ, act)

    def unwatch(self, fd: int) -> None:
        """Watch a descriptor no more; it must still be open. One that was not watched does no harm."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(fd)

    def turn(self, timeout_seconds: float) -> None:
        """Wait for something to happen, at most so long, and let it happen; raises what a holder or an act raises."""
        if not self._eager and timeout_seconds > 0:
            select.select([self._selector], [], [], timeout_seconds)  # its own patience counts whole milliseconds
        ready = self._selector.select(0.0)
        for key, events in ready:
            if isinstance(key.data, Connection):
                self._serve(key.data, events)
            elif self._still(key):
                key.data()
        for connection in list(self._eager):
            self._drain(connection)

    def _still(self, key: selectors.SelectorKey) -> bool:
        """Whether a descriptor is watched as it was when it became ready: an act before may have ended that."""
        return self._selector.get_map().get(key.fileobj) == key

    def send(
        self, connection: Connection, frame: dict[str, Json], *, blob: bytes = b"", fds: tuple[int, ...] = ()
    ) -> None:
        """Send a frame, a blob behind it, and copies of descriptors with it, without ever waiting."""
        if not connection.open or connection.closing:
            return
        copies = tuple(os.dup(fd) for fd in fds)
        connection.outbox.append(Outgoing(memoryview(encode_frame(frame) + blob), copies))
        self._flush(connection)
        if sum(len(each.data) for each in connection.outbox) > OUTBOX_BYTES_MAX:
            self.drop(connection)

    def finish(self, connection: Connection) -> None:
        """Let go of a client once it has read what was sent."""
        connection.closing = True
        if not connection.outbox:
            self.drop(connection)

    def drop(self, connection: Connection) -> None:
        """Let go of a client now; its holder is told."""
        if not connection.open:
            return
        connection.open = False
        self._connections.discard(connection)
        self._eager.discard(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()
        for each in connection.outbox:
            each.drop()
        if self.holder is not None:
            self.holder.gone(connection)

    def everyone(self) -> list[Connection]:
        """Every client that is here."""
        return list(self._connections)

    def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Let everyone read what was sent, for so long at most, and let go of them."""
        self.holder = None
        for connection in self.everyone():
            self.finish(connection)
        until = boottime() + seconds
        while self._connections and boottime() < until:
            self.turn(until - boottime())

    def shut(self) -> None:
        """Let nobody in any more; whoever is here stays."""
        if self._listener.fileno() >= 0:
            self.unwatch(self._listener.fileno())
            self._listener.close()
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of everyone, and let nobody in any more."""
        self.holder = None
        self.shut()
        for connection in self.everyone():
            self.drop(connection)
        self._selector.close()

    def _accept(self) -> None:
        try:
            own, _ = self._listener.accept()
        except OSError:
            return  # it thought better of it, or there are no descriptors left: the next turn asks again
        if len(self._connections) >= CONNECTIONS_MAX:
            own.close()
            return
        own.setblocking(False)
        connection = Connection(own, Inbox(self._keep_bytes_max))
        self._connections.add(connection)
        self._selector.register(own, selectors.EVENT_READ, connection)

    def _serve(self, connection: Connection, events: int) -> None:
        if connection.open and events & selectors.EVENT_WRITE:
            self._flush(connection)
        if not connection.open or not events & selectors.EVENT_READ or connection in self._eager:
            return
        try:
            data = connection.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drop(connection)
            return
        if connection.closing:
            return  # what it still says nobody reads
        connection.inbox.feed(data)
        self._drain(connection)

    def _drain(self, connection: Connection) -> None:
        """Hand over what came in, a few messages at a time; who sends what cannot be read is let go."""
        self._eager.discard(connection)
        try:
            for _ in range(MESSAGES_AT_ONCE):
                message = connection.inbox.pull() if connection.open else None
                if message is None:
                    return
                if not connection.closing and self.holder is not None:
                    self.holder.take(connection, message)
        except MalformedInput as fault:
            why = f"what came in could not be read: {fault.message[:400]}"
            self.send(connection, {"type": "stop", "why": why, "halted": False})
            self.finish(connection)
            return
        if connection.open:
            self._eager.add(connection)

    def _flush(self, connection: Connection) -> None:
        """Send what the client takes now; the rest goes when it reads on."""
        try:
            while connection.outbox:
                first = connection.outbox[0]
                sent = socket.send_fds(connection.socket, [first.data], [*first.fds])
                first.drop()
                first.data = first.data[sent:]
                if not first.data:
                    connection.outbox.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self.drop(connection)
            return
        waits = selectors.EVENT_WRITE if connection.outbox else 0
        self._selector.modify(connection.socket, selectors.EVENT_READ | waits, connection)
        if connection.closing and not connection.outbox:
            self.drop(connection)


def _bind(listener: socket.socket, path: Path) -> None:
    """Bind by a short name: a socket's path is limited to about 100 bytes, a folder's descriptor is not."""
    path.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    path.chmod(0o600)  # nobody can come in before `listen`
    listener.listen(64)
