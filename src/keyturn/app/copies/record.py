"""Who a known copy is: the process as the kernel tells it, kept on disk so that nobody takes another process for it.

A process number comes back; with the moment of its start, the machine's boot and the process namespace it does not.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import struct
from dataclasses import asdict, dataclass
from pathlib import Path

from keyturn.core.errors import Unavailable

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NAMESPACE = Path("/proc/self/ns/pid")
PEER = struct.Struct("3i")
SO_PEERPIDFD = 77
"""Linux 6.5 gives a descriptor of whoever connected, which no later process can be taken for."""

START_FIELD = 19
"""Where the start stands in `/proc/PID/stat`, counted behind the name."""

RECORD_BYTES_MAX = 4096
PID_MAX = (1 << 31) - 1
"""A greater number is no process, and nothing that could even be asked for."""


@dataclass(frozen=True, slots=True)
class Record:
    """One copy; `started` counts the kernel's ticks since the machine's start."""

    permit: str
    pid: int
    started: int
    boot: str
    namespace: str

    @property
    def id(self) -> str:
        """Its name among the records."""
        return f"{self.pid}-{self.started}"

    def __str__(self) -> str:
        """Its name for people."""
        return f"process {self.pid} under permit {self.permit}"


def _started(pid: int) -> int:
    """When a process started; raises `OSError` where it is gone."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text.rpartition(")")[2].split()[START_FIELD])


def _boot() -> str:
    return BOOT_ID.read_text().strip()


def peer(connection: socket.socket, permit: str) -> tuple[Record, int]:
    """Who is at the other end, by the kernel's word, and a process descriptor; raises `Unavailable` on any doubt."""
    pid, _, _ = PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))
    if pid <= 0:
        raise Unavailable("the kernel does not say which process asks", help="register outside of any container")
    try:
        pidfd = _descriptor(connection, pid)
    except OSError as error:
        raise Unavailable(f"process {pid} cannot be watched: {error.strerror}", help="see `keyturn doctor`") from error
    try:
        record = Record(permit, pid, _started(pid), _boot(), str(NAMESPACE.readlink()))
        if gone(pidfd) or _hung_up(connection):
            raise Unavailable(f"process {pid} went away while it registered", help="register again")
    except (OSError, Unavailable) as error:
        os.close(pidfd)
        raise Unavailable(f"process {pid} cannot be told apart: {error}", help="register again") from error
    return record, pidfd


def _descriptor(connection: socket.socket, pid: int) -> int:
    try:
        return connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:  # it is gone, and its number may be another's by now
            raise
        return os.pidfd_open(pid)  # an older kernel: whether it still is the peer is looked at afterwards


def _hung_up(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


def gone(pidfd: int, seconds: float = 0.0) -> bool:
    """Whether the process has ended, as the kernel says, waiting at most so long."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return any(event & select.POLLIN for _, event in poll.poll(seconds * 1000))


def standing(record: Record) -> int | None:
    """A descriptor of the recorded process; None where it is provably gone. Raises `Unavailable` where neither shows.

    The descriptor is opened first and compared afterwards, so that no other process can slip in between.
    """
    try:
        if record.boot != _boot():
            return None  # no process outlives a boot
        if record.namespace != str(NAMESPACE.readlink()):
            raise Unavailable(f"{record} was registered where other process numbers hold", help="halt there")
        pidfd = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        raise Unavailable(f"whether {record} lives cannot be seen: {error.strerror}") from error
    try:
        if _started(record.pid) == record.started:
            return pidfd
    except FileNotFoundError:
        pass  # it ended in between
    except OSError as error:
        os.close(pidfd)
        raise Unavailable(f"whether {record} lives cannot be seen: {error.strerror}") from error
    os.close(pidfd)
    return None


def keep(folder: Path, record: Record) -> None:
    """Write a record durably; raises `Unavailable`."""
    draft = folder / f"{record.id}.tmp"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        with draft.open("w", encoding="utf-8") as file:
            json.dump(asdict(record), file)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(_place(folder, record))
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise Unavailable(f"the copy could not be written down: {error.strerror}", help="make room") from error


def forget(folder: Path, record: Record) -> None:
    """Remove the record of a copy that is gone; one that cannot be removed is found to be gone the next time."""
    try:
        _place(folder, record).unlink(missing_ok=True)
    except OSError:
        return


def read_all(folder: Path) -> tuple[list[Record], list[str]]:
    """Every record, and in words what could not be read."""
    try:
        places = sorted(folder.glob("*.json"))
    except OSError as error:
        return [], [f"which copies are known cannot be read: {error.strerror}"]
    found, unread = [], []
    for place in places:
        try:
            found.append(_read(place))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError, RecursionError) as error:
            unread.append(f"the record `{place.name[:80]}` cannot be read: {error}"[:300])
    return found, unread


def _read(place: Path) -> Record:
    with place.open("rb") as file:
        said = json.loads(file.read(RECORD_BYTES_MAX))
    record = Record(**said)
    if [type(value) for value in asdict(record).values()] != [str, int, int, str, str] or not 0 < record.pid <= PID_MAX:
        raise ValueError("it is none of ours")
    return record


def _place(folder: Path, record: Record) -> Path:
    return folder / f"{record.id}.json"


def known(folder: Path) -> int:
    """How many copies are known and not provably gone."""
    found, unread = read_all(folder)
    count = len(unread)
    for record in found:
        try:
            pidfd = standing(record)
        except Unavailable:
            count += 1
            continue
        if pidfd is not None:
            count += not gone(pidfd)
            os.close(pidfd)
    return count
