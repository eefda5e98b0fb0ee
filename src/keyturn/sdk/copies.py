"""Hold a lease for weights that this process has loaded through a permit, so that a halt reaches this process too.

The process ends when the governor says *halt*, is gone, or falls silent for as long as the lease. It never asks the
program around it: nothing that this process does can delay the end.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.core.finding import Finding
from keyturn.core.terms import Json
from keyturn.sdk.errors import Refused

SOCKET: Final = ".keyturn/control.sock"
ANSWER_SECONDS: Final = 20.0
ANSWER_BYTES_MAX: Final = 4096
HALT: Final = b"halt"
LEFT: Final = b"left\n"
_SETSIG: Final = 10
"""Linux: which signal the kernel sends when something happens at a socket."""


class Copy:
    """A lease in hand; a context manager. `id` is its name in receipts, `lease_seconds` the longest silence.

    It is this process's alone: a forked child has none, and is known to nobody.
    """

    def __init__(self, line: socket.socket, cord: int, said: dict[str, Json]) -> None:
        self.id, self.lease_seconds = str(said["copy"]), float(str(said["lease_seconds"]))
        self._line, self._cord = line, cord
        self._over = threading.Event()
        # When the governor's end of the cord closes, the kernel kills this process, even in code that never returns.
        fcntl.fcntl(cord, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(cord, _SETSIG, signal.SIGKILL)
        fcntl.fcntl(cord, fcntl.F_SETFL, fcntl.fcntl(cord, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
        threading.Thread(target=self._watch, name="keyturn-copy", daemon=True).start()

    def _watch(self) -> None:
        """End the process at the word *halt*, at the end of the line, and at a silence as long as the lease."""
        self._line.settimeout(self.lease_seconds)
        try:
            while (said := self._line.recv(ANSWER_BYTES_MAX)) and HALT not in said:
                continue
        except OSError:
            pass  # silence for as long as the lease, or a line that broke
        if not self._over.is_set():
            os.kill(os.getpid(), signal.SIGKILL)  # no handler of the program around it can stand in the way

    def close(self) -> None:
        """Say that the weights are no longer loaded here; the governor forgets this process."""
        if self._over.is_set():
            return
        self._over.set()
        # First: a child that was forked shares the cord, and the kernel would still kill this process at its end.
        fcntl.fcntl(self._cord, fcntl.F_SETFL, os.O_NONBLOCK)
        fcntl.fcntl(self._cord, fcntl.F_SETOWN, 0)
        os.close(self._cord)
        try:
            self._line.sendall(LEFT)
            self._line.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the governor is gone, and knows of nobody

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def hold(project: Path, *, permit: str) -> Copy:
    """Register this process with the project's governor as a copy loaded under this permit, and hold its lease.

    Call it before the weights are loaded. Raises Refused while halted or when the permit is not in force, and
    Unavailable where no governor runs.
    """
    line = _connected(project / SOCKET)
    try:
        line.sendall(json.dumps({"do": "copy", "permit": permit}).encode())
        said, cord = _answer(line)
    except OSError as error:
        line.close()
        raise Unavailable(f"the governor did not answer: {error}", help="see `keyturn status`") from error
    except BaseException:
        line.close()
        raise
    return Copy(line, cord, said)


def _answer(line: socket.socket) -> tuple[dict[str, Json], int]:
    """What the governor said, and the cord that came with it; raises Refused."""
    line.settimeout(ANSWER_SECONDS)
    data, fds, _, _ = socket.recv_fds(line, ANSWER_BYTES_MAX, 1, socket.MSG_CMSG_CLOEXEC)
    try:
        said = json.loads(data.partition(b"\n")[0] or b"{}")
        if said.get("state") == "held" and len(fds) == 1:
            return said, fds[0]
    except (ValueError, AttributeError) as error:
        for fd in fds:
            os.close(fd)
        raise MalformedInput("the governor's answer cannot be read", help="update both sides") from error
    for fd in fds:
        os.close(fd)
    why = Finding("copy_must_be_known", str(said.get("why", "no reason was given"))[:500], str(said.get("help", "")))
    raise Refused("this process may not hold a copy", [why])


def _connected(place: Path) -> socket.socket:
    """The governor's door, which must be of this account's or the superuser's."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = -1
    try:
        folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        line.connect(f"/proc/self/fd/{folder}/{place.name}")  # a socket's own path may have 107 bytes only
    except OSError as error:
        line.close()
        raise Unavailable(
            f"no governor listens at `{place}`: {error.strerror}", help="`keyturn run --wait` in that project"
        ) from error
    finally:
        if folder >= 0:
            os.close(folder)
    return line
