# ruff: noqa: PTH112, PTH123, PTH208 - as in init.py: importing pathlib would slow every launch
"""What `contained.py` sees around it, and what it puts its child under; like it, it runs alone in a container."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import platform
import stat
import struct
import sys
from collections.abc import Iterator

from keyturn.sandbox.alone import init

TAG_BYTES = 16
GOVERNOR, INIT = b"g", b"i"
"""Who speaks: a frame of one is never taken for one of the other."""

PIECE_BYTES = 32 * 1024
IN_ACCESS, IN_OPEN, IN_WRITTEN = 0x1, 0x20, 0x2 | 0x4 | 0x8
IN_NONBLOCK, IN_CLOEXEC = 0o4000, 0o2000000
ENTRIES_MAX = 1000
PR_GET_NO_NEW_PRIVS = 39
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
READ_ALL_OF_THE_RING = 3
EXECUTE, WRITE, READ, LIST, TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
REMOVE_FILE, MAKE_REGULAR = 1 << 5, 1 << 8
EVERYTHING_BUT_EXECUTION = ((1 << 16) - 1) & ~(EXECUTE | 1 << 6 | 1 << 11)
KEPT = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")


def tag(key: bytes, speaker: bytes, number: int, frame: bytes) -> bytes:
    """What shows that a frame is the speaker's own, in its place: some kernels let a subject at the stream of init."""
    return hashlib.blake2b(struct.pack(">cQ", speaker, number) + frame, key=key, digest_size=TAG_BYTES).digest()


def read(path: str) -> str:
    """A file of the kernel's; empty where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def kernel_says_gvisor() -> bool:
    """Whether the kernel's own messages are those with which gVisor starts."""
    room = ctypes.create_string_buffer(1 << 16)
    got = init.libc.klogctl(READ_ALL_OF_THE_RING, room, len(room))
    return got > 0 and b"gVisor" in room.raw[:got]


def look() -> dict[str, object]:
    """What holds for this process, as its kernel tells it; the subject has not begun and could not have a say."""
    lines = [line.partition(":") for line in read("/proc/self/status").splitlines()]
    status = {name: value.strip() for name, _, value in lines if name in KEPT}
    status["NoNewPrivs"] = str(init.libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))  # gVisor tells it nowhere else
    mounts = []
    for line in read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        words, kind = before.split(), after.split()
        sized = [word for word in kind[-1].split(",") if word.startswith("size=")]
        mounts.append([words[4], kind[0], sorted({*words[5].split(","), *sized})])
    devices = [line.partition(":")[0].strip() for line in read("/proc/net/dev").splitlines()[2:]]
    return {
        "status": status,
        "mounts": sorted(mounts),
        "network_devices": sorted(devices),
        "version": read("/proc/version").strip()[:200],
        "gvisor": kernel_says_gvisor(),
        "machine": platform.machine(),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "landlock_abi": init.landlock_abi(),
        "processes": len(processes()) + 1,
    }


def processes() -> list[int]:
    """Everybody who lives here but this process, whether it still runs or nobody has taken its end in."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != str(os.getpid())]


def living() -> list[int]:
    """Everybody here who still runs."""
    stats = [(pid, read(f"/proc/{pid}/stat").rpartition(")")[2].split()) for pid in processes()]
    return [pid for pid, fields in stats if fields and fields[0] not in {"Z", "X"}]


def landlock_rules(config: dict[str, object]) -> list[list[object]]:
    """What the subject may do where: read and run what the image holds, write in its own folders only."""
    places, ours = [str(place) for place in config["writable"]], [str(place) for place in config["shown"]]  # type: ignore[attr-defined]  # plain JSON, made by our own governor
    tops = [name for name in os.listdir("/") if os.path.isdir("/" + name)]
    rules: list[list[object]] = [["/proc", READ | LIST], ["/dev", READ | WRITE | LIST]]
    rules += [["/" + top, EXECUTE | READ | LIST] for top in tops if not shares(top, [*places, *ours, "/proc", "/dev"])]
    rules += [[place, EVERYTHING_BUT_EXECUTION] for place in places if place != "/out" and os.path.isdir(place)]
    rules += [[place, READ | EXECUTE | LIST] for place in ours]
    if "/out" in places:
        rules.append(["/out", READ | LIST | WRITE | TRUNCATE | REMOVE_FILE | MAKE_REGULAR])
    return rules + [[target, READ | WRITE | TRUNCATE] for _, target in config["decoys"]]  # type: ignore[attr-defined]  # plain JSON again


def shares(top: str, places: list[str]) -> bool:
    """Whether one of the places lies in this folder of the root."""
    return any(place.split("/")[1] == top for place in places)


def filter_calls(code: bytes) -> None:
    """Put this process, for ever, under a system call filter; raises `OSError`."""
    room = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(room))
    if init.libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(program), 0, 0):
        raise OSError(ctypes.get_errno(), "the system call filter could not be applied")


def hand_out(left: int) -> Iterator[tuple[bytes, bytes]]:
    """What lies in `/out`, entry by entry; of plain files the bytes as well, `left` of them in all."""
    for name in sorted(os.listdir("/out"))[: ENTRIES_MAX + 1]:
        status = os.lstat("/out/" + name)
        told = [os.fsencode(name).hex(), status.st_mode, status.st_nlink, status.st_size]
        yield b"M", json.dumps(told).encode()
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_size <= left:
            left -= status.st_size
            yield from pieces("/out/" + name)
    yield b"D", b""


def pieces(path: str) -> Iterator[tuple[bytes, bytes]]:
    """One file of the dead subject's; one that cannot be read is told as such."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        yield b"e", (error.strerror or "").encode()
        return
    with os.fdopen(fd, "rb") as file:
        while data := file.read(PIECE_BYTES):
            yield b"m", data
    yield b"w", b""


def watch(decoys: list[tuple[str, str]]) -> tuple[int, dict[int, str]]:
    """A watch on each decoy; one that cannot be watched is missing from the count that the governor compares."""
    if not decoys:
        return -1, {}
    fd, names = int(init.libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC)), {}
    for name, target in decoys if fd >= 0 else []:
        number = int(init.libc.inotify_add_watch(fd, os.fsencode(target), IN_ACCESS | IN_OPEN | IN_WRITTEN))
        if number >= 0:
            names[number] = name
    return fd, names
