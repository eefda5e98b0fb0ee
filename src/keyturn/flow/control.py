"""A door for halting from outside: a socket in the project folder that a second process can knock at.

Every knock has a thread of its own; a halt acts there and then, whatever else is being asked or done. What else may be
asked is named by `do`; a request without it, with one that nobody here knows, or that cannot be read is a halt.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from keyturn.core.errors import KeyturnError, Unavailable
from keyturn.core.events import Document

REQUEST_BYTES_MAX = 4096
ANSWER_SECONDS = 20.0
KNOCK_SECONDS = 1.0
HEARD_SECONDS = 2.0
NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED}
"""Why nobody can be let in just now, which is no reason to close the door for ever."""

NO_ROOM_SECONDS = 0.02
HEARD = b"\n"
"""What a door says at once to whoever asks for a halt, before the receipt; to a reader of JSON it is nothing."""

DRILL, COPY = "drill", "copy"
"""What `do` may ask for beside a halt: a halt that is measured, and to be known as a loaded copy."""

HaltNow = Callable[[str, str], Document]

Ask = Callable[[Mapping[str, object], socket.socket], Document | None]
"""Answers one request that is no halt; None where the connection itself was taken over."""


class ControlDoor:
    """Listens on `control.sock` (mode 0600) while a governor runs; use as a context manager."""

    def __init__(self, path: Path, halt: HaltNow, asks: Mapping[str, Ask] | None = None) -> None:
        self._path, self._halt, self._asks = path, halt, dict(asks or {})
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._serve, name="keyturn-control", daemon=True)
        self._closed = False

    def __enter__(self) -> Self:
        """Open the door; raises `Unavailable` when the socket cannot be made."""
        try:
            self._path.unlink(missing_ok=True)
            with _short(self._path) as name:
                self._socket.bind(name)
            self._path.chmod(0o600)
            self._socket.listen(8)
        except OSError as fault:
            raise Unavailable(
                f"the control socket cannot be opened: {fault}", help="see who owns the folder"
            ) from fault
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the door."""
        self._closed = True
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._socket.accept()
            except OSError as fault:
                if fault.errno not in NO_ROOM:  # closed
                    return
                time.sleep(NO_ROOM_SECONDS)  # whoever knocks waits for the room, or acts by their own hand
                continue
            try:
                threading.Thread(target=self._answer, args=(connection,), name="keyturn-knock", daemon=True).start()
            except RuntimeError:  # no thread to be had: whoever knocks is answered all the same
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(KNOCK_SECONDS)
        ask: Ask | None = None
        request: Mapping[str, object] = {}
        try:
            request = _clean(json.loads(connection.recv(REQUEST_BYTES_MAX) or b"{}"))
            by, reason = str(request.get("by", "somebody")), str(request.get("reason", "no reason given"))
            ask = self._asks.get(str(request.get("do", "halt")))
        except (OSError, ValueError, AttributeError, RecursionError):
            # Whoever knocks wants a halt; an unreadable knock is halted on rather than ignored.
            by, reason = "somebody", "an unreadable request at the control socket"
        if ask is None:
            answer: Document | None = self._halted(connection, by, reason)
        else:
            answer = _asked(ask, request, connection)
        if answer is None:
            return  # the connection is somebody else's now
        with connection:
            try:
                connection.sendall(json.dumps(answer).encode())
            except OSError:
                return  # what was asked is done; only its answer had nobody to go to

    def _halted(self, connection: socket.socket, by: str, reason: str) -> Document:
        """Halt, having said that somebody is here: whoever hears nothing acts by their own hand."""
        with suppress(OSError):
            connection.send(HEARD, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        return self._receipt(by, reason)

    def _receipt(self, by: str, reason: str) -> Document:
        """Halt; a halt that could not be recorded is still answered for, and the door stays open."""
        try:
            return self._halt(by, reason)
        except (KeyturnError, OSError) as fault:
            return {"state": "UNPROVEN", "why": reason, "unknown": [f"the halt was not recorded: {fault}"]}


def _clean(request: Mapping[str, object]) -> Mapping[str, object]:
    """The request with only such texts as any file and any log can hold."""
    return {
        name: said.encode("utf-8", "replace").decode() if isinstance(said, str) else said
        for name, said in request.items()
    }


def _asked(ask: Ask, request: Mapping[str, object], connection: socket.socket) -> Document | None:
    """The answer to a request that is no halt; what goes wrong is told to whoever asked."""
    try:
        return ask(request, connection)
    except KeyturnError as fault:
        return {"state": "refused", "why": fault.message, "help": fault.help, "code": fault.exit_code}
    except OSError as fault:
        return {"state": "refused", "why": str(fault), "help": "", "code": Unavailable.exit_code}


def knock(
    path: Path, *, by: str, reason: str, do: str = "halt", more: Mapping[str, object] | None = None
) -> Document | None:
    """Ask the running governor to halt; None when none answers in time, so that the caller must act itself."""
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with door:
        door.settimeout(KNOCK_SECONDS)
        try:
            with _short(path) as name:
                door.connect(name)
            door.sendall(json.dumps({**(more or {}), "do": do, "by": by, "reason": reason}).encode())
            if do == "halt":
                door.settimeout(HEARD_SECONDS)
                door.recv(1, socket.MSG_PEEK)  # a governor that hangs does not even say that it heard
            door.settimeout(ANSWER_SECONDS)
            answer = json.loads(_all(door))
        except (OSError, ValueError):
            return None
    return answer if isinstance(answer, dict) else None


def _all(door: socket.socket) -> bytes:
    data = b""
    while chunk := door.recv(65536):
        data += chunk
    return data


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A short name for a socket: its path is limited to about 100 bytes, a folder's descriptor is not."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
