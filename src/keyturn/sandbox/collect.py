"""Collecting: copy the declared files out of a dead sandbox's `/out`, and refuse everything else that lies there.

It works on an open folder and never follows a link, opens a device or reads past a limit. Names that the subject chose
are shown escaped and cut short, because people and models read findings.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from keyturn.sandbox.port import Collected, Finding

ENTRIES_MAX = 1000
"""Past so many entries we stop looking: the candidate is refused anyway."""

FINDINGS_MAX = 20
NAME_LENGTH_MAX = 64

KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def shown(name: str) -> str:
    """A name of the subject's choosing, made safe to print."""
    plain = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    text = "".join(c if c.isascii() and c.isprintable() and c != "`" else "?" for c in plain)
    return text if len(text) <= NAME_LENGTH_MAX else text[: NAME_LENGTH_MAX - 3] + "..."


def _entries(folder: int) -> tuple[list[str], bool]:
    """The names in the folder, and whether that is all of them."""
    names: list[str] = []
    with os.scandir(folder) as found:
        for entry in found:
            if len(names) == ENTRIES_MAX:
                return names, False
            names.append(entry.name)
    return sorted(names), True


def _faults(name: str, status: os.stat_result, bytes_max: int | None) -> list[Finding]:
    """What is wrong with one entry, before it is opened."""
    kind = KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is not None:
        return [Finding("only_regular_files", f"`{shown(name)}` is {kind}; only regular files are taken")]
    if bytes_max is None:
        return [Finding("only_declared_files", f"`{shown(name)}` was not declared")]
    if status.st_nlink != 1:
        return [Finding("one_link_only", f"`{shown(name)}` has {status.st_nlink} links; exactly one is taken")]
    if status.st_size > bytes_max:
        found = f"`{shown(name)}` has {status.st_size} bytes; at most {bytes_max} are taken"
        return [Finding("within_its_size", found)]
    return []


def _copy(folder: int, name: str, status: os.stat_result, bytes_max: int) -> bytes | Finding:
    """The file's bytes, if it still is what was looked at and can be read."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        return Finding("readable", f"`{shown(name)}` cannot be read: {error.strerror}")
    with os.fdopen(fd, "rb") as file:
        now = os.fstat(fd)
        if (now.st_ino, now.st_mode, now.st_nlink) != (status.st_ino, status.st_mode, status.st_nlink):
            return Finding("unchanged", f"`{shown(name)}` changed while it was looked at")
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        return Finding("within_its_size", f"`{shown(name)}` has more than {bytes_max} bytes")
    return data


def collect(folder: int, declared: tuple[tuple[str, int], ...], also: tuple[tuple[str, int], ...]) -> Collected:
    """Copy the declared files out of the open `folder`; those in `also` may be absent, anything else is a finding."""
    names, whole = _entries(folder)
    entries = [(name, os.stat(name, dir_fd=folder, follow_symlinks=False)) for name in names]
    return sort_out(entries, lambda name, status, most: _copy(folder, name, status, most), declared, also, whole=whole)


def sort_out(
    entries: list[tuple[str, os.stat_result]],
    copy: Callable[[str, os.stat_result, int], bytes | Finding],
    declared: tuple[tuple[str, int], ...],
    also: tuple[tuple[str, int], ...],
    *,
    whole: bool,
) -> Collected:
    """What of the entries is taken, whoever copies it; `whole` says whether these are all that lay there."""
    allowed = dict((*also, *declared))
    findings = [] if whole else [Finding("few_entries", f"there are more than {ENTRIES_MAX} entries")]
    files: dict[str, bytes] = {}
    for name, status in entries:
        faults = _faults(name, status, allowed.get(name))
        findings += faults
        if faults or len(findings) >= FINDINGS_MAX:
            continue
        copied = copy(name, status, allowed[name])
        if isinstance(copied, Finding):
            findings.append(copied)
        else:
            files[name] = copied
    names = {name for name, _ in entries}
    absent = [name for name, _ in declared if name not in names]
    findings += [Finding("every_declared_file", f"`{shown(name)}` was declared and is not there") for name in absent]
    return Collected(files, tuple(findings[:FINDINGS_MAX]))
