"""Where the last containment check is kept: one file per user and machine, which nobody else can write.

A file that is not exactly what we would have written counts as none. Whoever has the account can write what we write.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from keyturn.core.errors import Unavailable
from keyturn.core.terms import Digest, Instant, Json, Tier
from keyturn.sandbox.standing.judging import Kept, Moment

NAME = "sandbox-check.json"
BYTES_MAX = 256 * 1024
FORMAT = 1
WAIT_SECONDS = 0.1


def place() -> Path:
    """The file of this user: below `$XDG_STATE_HOME`, which must be absolute to count, or `~/.local/state`."""
    named = os.environ.get("XDG_STATE_HOME", "")
    home = Path(named) if named.startswith("/") else Path.home() / ".local" / "state"
    return home / "keyturn" / NAME


def now() -> Moment:
    """Now, on both clocks."""
    return Moment(Instant(time.time_ns() // 1_000_000), time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000)


def read(path: Path) -> tuple[Kept | None, str]:
    """What is kept, or None and why nothing is; never raises, because what cannot be read was never checked."""
    try:
        data, distrusted = _data(path)
    except FileNotFoundError:
        return None, ""
    except OSError as fault:
        return None, f"its result at `{path}` cannot be read: {fault.strerror}"
    if distrusted:
        return None, f"its result at `{path}` does not count: {distrusted}"
    try:
        return _kept(data), ""
    except json.JSONDecodeError:
        return None, f"its result at `{path}` is not what a check writes: it is no JSON"
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as fault:
        return None, f"its result at `{path}` is not what a check writes: {fault}"


def _data(path: Path) -> tuple[bytes, str]:
    """What stands there, and why it does not count; links are not followed, pipes not waited for."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(fd, "rb") as file:  # noqa: PTH123 - the descriptor was opened without following links
        distrusted = _distrusted(os.fstat(fd)) or _distrusted(path.parent.stat(), folder=True)
        return b"" if distrusted else file.read(BYTES_MAX + 1), distrusted


def _distrusted(status: os.stat_result, *, folder: bool = False) -> str:
    """Why somebody else may have written it; empty where only this user could."""
    what = "its folder" if folder else "it"
    if not (stat.S_ISDIR if folder else stat.S_ISREG)(status.st_mode):
        return f"{what} is of another kind"
    if status.st_uid != os.geteuid():
        return f"{what} belongs to the user {status.st_uid}"
    return f"others may write {what}" if status.st_mode & 0o022 else ""


def _kept(data: bytes) -> Kept:
    """The result in these bytes; anything else raises one of the errors that `read` knows."""
    if len(data) > BYTES_MAX:
        raise ValueError("it is too long")
    body = json.loads(data)
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise ValueError("it has another form")
    kept = Kept(
        tier=Tier(body["tier"]),
        suite=Digest(_text(body["suite"])),
        held=_count(body["held"]),
        scored=_count(body["scored"]),
        controlled=_count(body["controlled"]),
        failed=tuple(_text(each) for each in body["failed"]),
        residual=tuple(_text(each) for each in body["residual"]),
        seconds=float(body["seconds"]),
        when=Moment(Instant(_count(body["at"])), _count(body["since_boot_ms"])),
        bound={_text(name): _text(value) for name, value in body["bound"].items()},
    )
    if _bytes(kept) != data:
        raise ValueError("it was changed since")
    if kept.held > kept.scored:
        raise ValueError("more probes held than were scored")
    return kept


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"`{value}` is no text")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"`{value}` is no count")
    return value


def _bytes(kept: Kept) -> bytes:
    """The one way to write it, with a digest over all of it at the end."""
    body: dict[str, Json] = {
        "format": FORMAT,
        "tier": kept.tier.value,
        "suite": kept.suite,
        "held": kept.held,
        "scored": kept.scored,
        "controlled": kept.controlled,
        "failed": list(kept.failed),
        "residual": list(kept.residual),
        "seconds": kept.seconds,
        "at": int(kept.when.at),
        "since_boot_ms": kept.when.since_boot_ms,
        "bound": dict(sorted(kept.bound.items())),
    }
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return json.dumps({**body, "digest": f"sha256:{digest}"}, indent=1).encode() + b"\n"


def write(path: Path, kept: Kept) -> None:
    """Put it in the place of the last one, at once and durably, for this user alone; raises `Unavailable`."""
    folder = _folder(path)
    try:
        draft = path.with_name(f".{NAME}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:  # noqa: PTH123 - the descriptor was made for this user alone
            file.write(_bytes(kept))
            file.flush()
            os.fsync(fd)
        draft.replace(path)
        os.fsync(folder)
    except OSError as fault:
        raise _unusable(path, fault.strerror or str(fault)) from fault
    finally:
        os.close(folder)


def _folder(path: Path) -> int:
    """The folder, made for this user alone, open; raises `Unavailable` where it is not this user's own."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            owner = os.fstat(folder).st_uid
            if owner != os.geteuid():
                raise _unusable(path, f"its folder belongs to the user {owner}")
            os.fchmod(folder, 0o700)
        except BaseException:
            os.close(folder)
            raise
    except OSError as fault:
        raise _unusable(path, fault.strerror or str(fault)) from fault
    return folder


def _unusable(path: Path, why: str) -> Unavailable:
    help = "name a folder of this user's own: `export XDG_STATE_HOME=DIR`"
    return Unavailable(f"the result of the containment check cannot be kept at `{path}`: {why.lower()}", help=help)


@contextlib.contextmanager
def one_at_a_time(path: Path, tick: Callable[[], None]) -> Iterator[None]:
    """Hold the place while a check runs, so that two of them do not disturb each other; `tick` may raise meanwhile."""
    folder = _folder(path)
    try:
        while not _locked(folder):
            tick()
            time.sleep(WAIT_SECONDS)
        yield
    finally:
        os.close(folder)


def _locked(fd: int) -> bool:
    import fcntl  # not everywhere, and `keyturn doctor` has something to say everywhere

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
