"""Starting the governor of a loop, a process of its own that ends with the run.

It inherits no variable but those named here: the keys for an endpoint stay with the loop.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from keyturn.core.errors import Unavailable
from keyturn.sdk.line import Line

LOG: Final = ".keyturn/loop-serve.log"
"""What the governor's process says goes here, within the project's folder."""

INHERITED: Final = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "USER", "LOGNAME", "VIRTUAL_ENV", "PYTHONPATH", "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME", "XDG_RUNTIME_DIR",
)  # fmt: skip  # a list reads best as a block

_TURN_SECONDS: Final = 0.05
_TURNS_MAX: Final = 1200
_END_SECONDS: Final = 20.0
_QUOTED_BYTES: Final = 1000


@contextmanager
def served(project: Path, *, start: bool, shadow: bool) -> Iterator[Line]:
    """A line to the governor of this project, started if nobody listens; one that was started here is ended here.

    Raises Unavailable, with the governor's own last words where it did not come up.
    """
    try:
        line = Line.to(project)
    except Unavailable:
        if not start:
            raise
    else:
        with line:
            yield line
        return
    with _started(project, shadow=shadow) as process, _awaited(project, process) as line:
        yield line


@contextmanager
def _started(project: Path, *, shadow: bool) -> Iterator[subprocess.Popen[bytes]]:
    # `-P`: what lies in the folder where the loop was started is no part of its governor.
    command = [sys.executable, "-P", "-m", "keyturn", "loop", "serve", "--project", str(project)]
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    try:
        log = os.open(project / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"`{project}` is no project: {error.strerror}", help="see `keyturn init`") from error
    try:
        process = subprocess.Popen(
            command + (["--shadow"] if shadow else []),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
        )  # fmt: skip  # streams in one row
    finally:
        os.close(log)
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for its end, which follows from the run's: it still writes into the log what the run did. Then insist."""
    for insist in (process.terminate, process.kill):
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            insist()
    process.wait()


def _awaited(project: Path, process: subprocess.Popen[bytes]) -> Line:
    """The line, once the governor listens."""
    for _ in range(_TURNS_MAX):
        with contextlib.suppress(Unavailable):
            return Line.to(project)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_TURN_SECONDS)
            break
    raise Unavailable(f"the governor did not come up: {_last_words(project)}", help=f"see `{LOG}` in the project")


def _last_words(project: Path) -> str:
    said = (project / LOG).read_bytes()[-_QUOTED_BYTES:].decode(errors="replace").strip()
    return said or "it said nothing"
