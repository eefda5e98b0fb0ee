"""Our allow-list of system calls as the profile that container engines read (OCI runtime specification, seccomp).

It is the engine's outer filter: init needs a few calls more than a subject, to watch decoys and to put the exact filter
of `seccomp.py` on the subject. Where our filter refuses by an argument, this one allows by it.
"""

from __future__ import annotations

import json
import struct

from keyturn.core.terms import Json
from keyturn.sandbox import seccomp

FOR_INIT = ("inotify_init1", "inotify_add_watch")
FOR_ENGINES = ("capget", "capset", "setuid", "setgid", "setgroups", "fchown", "mkdirat", "statfs", "fstatfs")
"""What the engine's runtime itself calls between its applying the filter and its starting our init."""

INIT = 1
PR_SET_SECCOMP = 22
FCNTLS = (0, 1, 2, 3, 4, 8, 9, 10, 11, 15, 16, 1030, 1031, 1032, 1033, 1034)
"""Duplicates, flags, owners, sizes and seals: no lock, no lease, no notice."""

SIGNALS = {"kill": (0,), "tkill": (0,), "tgkill": (0, 1), "rt_sigqueueinfo": (0,), "rt_tgsigqueueinfo": (0, 1),
           "pidfd_open": (0,)}  # fmt: skip  # a table reads best as a block
"""Calls that name a process, and the arguments in which they do."""

ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}


def _by_argument(name: str, index: int, values: tuple[int, ...]) -> list[Json]:
    """Allow the call when the argument is one of these."""
    return [
        {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [{"index": index, "value": value, "op": "SCMP_CMP_EQ"}]}
        for value in values
    ]


def profile(machine: str) -> str:
    """The profile for one machine, as the text that engines take; what is not on it answers "not implemented"."""
    column = seccomp.MACHINES[machine][1]
    deciding = {
        "clone", "clone3", "flock", "socket", "socketpair", "ioctl", "prctl", "fcntl", "prlimit64", "sched_setaffinity",
    }  # fmt: skip  # a set of words reads best as a block
    plain = [name for name, row in seccomp.table().items() if name not in deciding and row[column] is not None]
    names: list[Json] = [*sorted({*plain, *FOR_INIT, *FOR_ENGINES})]
    no_namespaces: Json = {"index": 0, "value": seccomp.NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    calls: list[Json] = [
        {"names": names, "action": "SCMP_ACT_ALLOW"},
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [no_namespaces]},
        {"names": ["flock"], "action": "SCMP_ACT_ERRNO", "errnoRet": seccomp.ENOLCK},
        *_by_argument("socket", 0, (seccomp.AF_UNIX,)),
        *_by_argument("socketpair", 0, (seccomp.AF_UNIX,)),
        *_by_argument("ioctl", 1, seccomp.IOCTLS),
        *_by_argument("prctl", 0, (*seccomp.PRCTLS, PR_SET_SECCOMP)),
        *_by_argument("fcntl", 1, FCNTLS),
        *_by_argument("prlimit64", 0, seccomp.ONESELF),
        *_by_argument("sched_setaffinity", 0, seccomp.ONESELF),
    ]
    return json.dumps(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": seccomp.ENOSYS,
            "architectures": [ARCHITECTURES[machine]],
            "syscalls": calls,
        },
        sort_keys=True,
    )


def spare_init(machine: str) -> bytes:
    """A second filter for the subject: it may not name process 1, whom Linux protects by itself and gVisor does not."""
    column = seccomp.MACHINES[machine][1]
    code: list[seccomp.Instruction] = [(seccomp.LOAD, 0, 0, seccomp.NUMBER_AT)]
    for name, arguments in SIGNALS.items():
        number = seccomp.table().get(name, [None, None])[column]
        if number is None:
            continue  # it is not on the list, so the first filter refuses it
        body: list[seccomp.Instruction] = []
        for index in arguments:
            body += [(seccomp.LOAD, 0, 0, seccomp.FIRST_AT + 8 * index), (seccomp.JUMP_EQUAL, 0, 1, INIT),
                     (seccomp.ANSWER, 0, 0, seccomp.ERRNO | seccomp.EPERM)]  # fmt: skip  # one test
        body.append((seccomp.ANSWER, 0, 0, seccomp.ALLOW))
        code += [(seccomp.JUMP_EQUAL, 0, len(body), number), *body]
    code.append((seccomp.ANSWER, 0, 0, seccomp.ALLOW))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)
