"""The governor's end of the launcher, the small process of ours that makes sandboxes.

It asks, one launch at a time, and kills the launcher where a halt must be sure that nothing comes after it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

from keyturn.core.errors import Unavailable
from keyturn.core.terms import Json
from keyturn.sandbox.command import ALONE
from keyturn.sandbox.proof import exited

PARK_SECONDS_MAX = 15.0
LAUNCHER_BYTES_MAX = 200_000


class Launcher:
    """The governor's end of `launcher.py`: one small process, started when first needed, and again if it dies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._pidfd = -1
        self._pidfd_lock = threading.Lock()

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
            self._pidfd = os.pidfd_open(self._process.pid)
        ours.settimeout(PARK_SECONDS_MAX)
        self._channel = ours
        return ours

    def launch(self, request: dict[str, Json], fds: list[int], *, may: Callable[[], bool]) -> tuple[int, int]:
        """Make one sandbox, if it still `may` be; its monitor's process id and descriptor. Raises `Unavailable`."""
        with self._lock:
            try:
                channel = self._start()
                if not may():  # asked only now that a halt would find the launcher: it dies, or nothing is launched
                    raise Unavailable("a halt came before the sandbox was launched", help="see `keyturn status`")
                socket.send_fds(channel, [json.dumps(request).encode()], fds)
                answer, got, _, _ = socket.recv_fds(channel, 65536, 1)
            except OSError as error:
                self._close()
                raise Unavailable(f"the launcher does not answer: {error}", help="see `keyturn doctor`") from error
        if not got:
            why = json.loads(answer).get("error", "no answer") if answer else "it has ended"
            raise Unavailable(f"the launcher could not start a sandbox: {why}", help="see `keyturn doctor`")
        return int(json.loads(answer)["pid"]), got[0]

    def strike(self, seconds: float) -> bool:
        """Kill it, from any thread, whatever it is doing, and wait so long for its end; False where there is none.

        The next launch starts another one. Without this, a launch under way could come to life behind a kill. It asks
        for no descriptor, so that it works where none is left, and meanwhile nobody gives the number to another.
        """
        with self._pidfd_lock:
            if self._pidfd < 0:
                return False
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            exited((self._pidfd,), seconds)
            return True

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
        with self._pidfd_lock:
            if self._pidfd >= 0:
                os.close(self._pidfd)
            self._pidfd = -1

    def close(self) -> None:
        """End it."""
        with self._lock:
            self._close()
