"""The seccomp allow-list as classic BPF, made by a pure function from `syscalls.json`; it needs no library.

What is not on the list answers "not implemented", so that programs fall back; a foreign architecture (int 0x80, x32)
kills. Numbers are those of the kernel's own headers; the format is that of seccomp(2) and `linux/filter.h`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import struct
from pathlib import Path

from keyturn.core.errors import Unavailable, invariant

MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""For each machine its audit architecture and its column in the table."""

DIGESTS = {
    "x86_64": "5df94d16b6f66bb3cb85d3466a5aeec711c9a5c38d37daeb6774ef16b1591f84",
    "aarch64": "f2fd996a859fc289700f81845e7ecced5644c15304e3d5624aa5a8fe52d78edb",
}
"""What the generator must give; a changed filter is a changed sandbox and must be noticed."""

X32 = 0x40000000
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, JUMP_EQUAL, JUMP_ABOVE_OR_EQUAL, JUMP_ANY_BIT, ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER_AT, ARCHITECTURE_AT, FIRST_AT, SECOND_AT = 0, 4, 16, 24
EPERM, EINVAL, ENOTTY, ENOLCK, ENOSYS, EAFNOSUPPORT = 1, 22, 25, 37, 38, 97
AF_UNIX = 1

NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""

IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: no terminal can be written to."""

PRCTLS = (1, 2, 3, 4, 15, 16, 21, 23, 29, 30, 38, 39, 41, 42, 0x53564D41)
"""Death signal, dumpable, names, seccomp and bounding set (read), timer slack, no_new_privs, huge pages."""

LOCKS = (5, 6, 7, 36, 37, 38, 1024, 1026)
"""Locks, leases and notices on files: on shared read-only files they carry words between sandboxes."""

ONESELF = (0,)
"""Whose limits and processors may be set: nobody else's, for init bears the same user and a limit of 0 kills it."""

Instruction = tuple[int, int, int, int]


def _compare(word_at: int, allowed: tuple[int, ...], otherwise: int) -> list[Instruction]:
    """Allow when the word is one of `allowed`; else answer with `otherwise`."""
    tests = [(JUMP_EQUAL, len(allowed) - n, 0, value) for n, value in enumerate(allowed)]
    return [(LOAD, 0, 0, word_at), *tests, (ANSWER, 0, 0, ERRNO | otherwise), (ANSWER, 0, 0, ALLOW)]


def _refuse(word_at: int, refused: tuple[int, ...], answer: int) -> list[Instruction]:
    """Answer with the error when the word is one of `refused`; else allow."""
    tests = [(JUMP_EQUAL, len(refused) - n, 0, value) for n, value in enumerate(refused)]
    return [(LOAD, 0, 0, word_at), *tests, (ANSWER, 0, 0, ALLOW), (ANSWER, 0, 0, ERRNO | answer)]


def _special() -> dict[str, list[Instruction]]:
    """Calls whose arguments decide."""
    return {
        "clone": [
            (LOAD, 0, 0, FIRST_AT),
            (JUMP_ANY_BIT, 0, 1, NEW_NAMESPACES),
            (ANSWER, 0, 0, ERRNO | EPERM),
            (ANSWER, 0, 0, ALLOW),
        ],
        "clone3": [(ANSWER, 0, 0, ERRNO | ENOSYS)],
        "flock": [(ANSWER, 0, 0, ERRNO | ENOLCK)],
        "socket": _compare(FIRST_AT, (AF_UNIX,), EAFNOSUPPORT),
        "socketpair": _compare(FIRST_AT, (AF_UNIX,), EAFNOSUPPORT),
        "ioctl": _compare(SECOND_AT, IOCTLS, ENOTTY),
        "prctl": _compare(FIRST_AT, PRCTLS, EINVAL),
        "fcntl": _refuse(SECOND_AT, LOCKS, ENOLCK),
        "prlimit64": _compare(FIRST_AT, ONESELF, EPERM),
        "sched_setaffinity": _compare(FIRST_AT, ONESELF, EPERM),
    }


def _plain(numbers: list[int]) -> list[Instruction]:
    """Allow each number; runs of neighbours cost two tests, so that the common path stays short."""
    code: list[Instruction] = []
    start = previous = numbers[0]
    for number in [*numbers[1:], -1]:
        if number == previous + 1:
            previous = number
            continue
        code += [(JUMP_ABOVE_OR_EQUAL, 0, 2, start), (JUMP_ABOVE_OR_EQUAL, 1, 0, previous + 1), (ANSWER, 0, 0, ALLOW)]
        start = previous = number
    return code


@functools.cache
def table() -> dict[str, list[int | None]]:
    """Each allowed call, with its number per column of `MACHINES` (null where it does not exist)."""
    read: dict[str, list[int | None]] = json.loads((Path(__file__).parent / "syscalls.json").read_bytes())
    return read


def program(machine: str, calls: dict[str, list[int | None]]) -> bytes:
    """The filter for one machine: an array of `struct sock_filter`, in its byte order (both are little-endian)."""
    architecture, column = MACHINES[machine]
    code: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (JUMP_EQUAL, 1, 0, architecture),
        (ANSWER, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER_AT),
    ]
    if machine == "x86_64":
        code += [(JUMP_ABOVE_OR_EQUAL, 0, 1, X32), (ANSWER, 0, 0, KILL)]
    special = _special()
    for name, body in special.items():
        number = calls[name][column]
        if number is not None:
            code += [(JUMP_EQUAL, 0, len(body), number), *body]
    numbers = sorted(row[column] or 0 for name, row in calls.items() if name not in special and row[column] is not None)
    code += [*_plain(numbers), (ANSWER, 0, 0, ERRNO | ENOSYS)]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


@functools.cache
def for_this_machine() -> bytes:
    """The filter for the machine that this runs on, checked against its digest; raises `Unavailable` for others."""
    machine = platform.machine()
    if machine not in MACHINES:
        known = ", ".join(MACHINES)
        raise Unavailable(f"no system call filter for `{machine}`; there is one for {known}", help="use such a machine")
    made = program(machine, table())
    invariant(hashlib.sha256(made).hexdigest() == DIGESTS[machine], "the system call filter is the one on record")
    return made
