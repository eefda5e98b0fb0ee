"""The runtime: which files of this machine a subject runs on, and one digest over them all.

Its heart is the governor's own interpreter; "shell" adds a list of common programs, and never a whole folder of them.

It reads ELF headers instead of asking the dynamic linker, so that nothing is run to find out what would be run. The
digest leaves out `__pycache__`, which Python checks against the sources that are in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from keyturn.core.errors import Unavailable
from keyturn.core.terms import Digest
from keyturn.sandbox.port import Bind, Runtime

INSIDE = "/runtime"
LIBRARY_FOLDERS = (
    "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
    "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib",
)  # fmt: skip  # a list of places reads best as a block
"""Where the dynamic linker looks without being told."""

MASKED = (
    "site-packages", "dist-packages", "test", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "config-*",
)  # fmt: skip  # a list of places reads best as a block
"""Parts of the standard library's folder that no subject needs and that would make the runtime hard to read over."""

UNUSED_MODULES = ("_tkinter", "readline", "_curses", "nis", "_dbm", "_gdbm", "spwd", "_crypt")
"""Extension modules whose libraries are left out (terminals, directories, old databases); importing them fails."""

PACKAGES = {"python": (), "python-numpy": ("numpy", "numpy.libs")}
PROGRAM_FOLDERS = "/usr/bin:/bin:/usr/sbin:/sbin"
PROGRAMS = (
    "bash", "cat", "chmod", "cp", "env", "grep", "head", "id", "ls", "mkdir", "mv", "rm", "rmdir", "sed", "sleep",
    "sort", "stat", "tail", "touch", "tr", "uname", "wc", "whoami",
)  # fmt: skip  # a list of words reads best as a block
"""Without one of these, or a `sh`, there is no shell to work in."""

MORE_PROGRAMS = (
    "[", "awk", "base64", "basename", "cmp", "comm", "cut", "date", "dd", "df", "diff", "dirname", "du", "echo",
    "expand", "expr", "false", "file", "find", "fold", "gunzip", "gzip", "hostname", "join", "kill", "ln", "md5sum",
    "mktemp", "nice", "nl", "nohup", "nproc", "od", "paste", "patch", "pgrep", "pkill", "printenv", "printf", "ps",
    "pwd", "readlink", "realpath", "seq", "setsid", "sha1sum", "sha256sum", "shuf", "split", "sync", "tac", "tar",
    "tee", "test", "timeout", "true", "truncate", "uniq", "which", "xargs", "xxd", "yes", "zcat",
)  # fmt: skip  # a list of words reads best as a block
"""What else comes along where this machine has it."""

NAMES = (*PACKAGES, "shell")
PT_DYNAMIC, PT_INTERP, PT_LOAD = 2, 3, 1
DT_NEEDED, DT_STRTAB = 1, 5


def elf_needs(path: Path) -> tuple[list[str], str | None]:
    """The libraries that a 64-bit little-endian ELF file names, and its interpreter; nothing for any other file."""
    with path.open("rb") as file:
        head = file.read(64)
        if head[:6] != b"\x7fELF\x02\x01":
            return [], None
        offset, size, count = (*struct.unpack_from("<Q", head, 32), *struct.unpack_from("<HH", head, 54))
        file.seek(offset)
        table = file.read(size * count)
        headers = [struct.unpack_from("<IIQQQQ", table, n * size) for n in range(count)]
        interpreter, dynamic = None, b""
        loads = [(address, length, at) for kind, _, at, address, _, length in headers if kind == PT_LOAD]
        for kind, _, at, _, _, length in headers:
            if kind in {PT_INTERP, PT_DYNAMIC}:
                file.seek(at)
                data = file.read(length)
                interpreter = data.rstrip(b"\0").decode() if kind == PT_INTERP else interpreter
                dynamic = data if kind == PT_DYNAMIC else dynamic
        entries = [struct.unpack_from("<QQ", dynamic, n) for n in range(0, len(dynamic) - 15, 16)]
        strings = next((value for tag, value in entries if tag == DT_STRTAB), None)
        names = []
        for value in [value for tag, value in entries if tag == DT_NEEDED] if strings is not None else []:
            where = next(
                at + strings - address for address, length, at in loads if address <= strings < address + length
            )
            file.seek(where + value)
            names.append(file.read(256).split(b"\0", 1)[0].decode())
        return names, interpreter


def find_library(name: str, near: tuple[Path, ...]) -> Path | None:
    """Where the dynamic linker would find a library: beside the interpreter, then where it looks by itself."""
    for folder in (*near, *map(Path, LIBRARY_FOLDERS)):
        if (folder / name).exists():
            return folder / name
    return None


def libraries(files: list[Path], near: tuple[Path, ...], bundled: frozenset[str]) -> dict[str, Path]:
    """Everything that `files` need to be linked, by the path at which it must be seen; `bundled` names come along.

    A library that the host finds beside the interpreter is shown where the C library lies, and so is found by itself.
    """
    found: dict[str, Path] = {}
    system = (find_library("libc.so.6", ()) or Path("/lib/libc.so.6")).parent
    waiting, seen = list(files), set(bundled)
    while waiting:
        names, interpreter = elf_needs(waiting.pop())
        if interpreter:
            found[interpreter] = Path(interpreter).resolve()
        for name in names:
            place = find_library(name, near) if name not in seen else None
            seen.add(name)
            if place is not None and not (interpreter and place.name == Path(interpreter).name):
                found[str(place if place.parent not in near else system / name)] = place.resolve()
                waiting.append(place.resolve())
    return found


def _walk(folder: Path, skip: frozenset[str]) -> Iterator[tuple[str, os.stat_result, str]]:
    """Every regular file and link below, in order of name: relative path, status, full path."""
    stack = [str(folder)]
    base = len(str(folder)) + 1
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                if entry.name == "__pycache__" or entry.path in skip:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                else:
                    yield entry.path[base:], entry.stat(follow_symlinks=False), entry.path


class Cache:
    """Digests of files, kept between runs by path, size, time of change and inode; losing it costs a second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.new = False
        try:
            self.known: dict[str, str] = json.loads(path.read_bytes())
        except (OSError, ValueError):
            self.known = {}
        self.used: dict[str, str] = {}

    def digest(self, path: str, status: os.stat_result) -> str:
        """The SHA-256 of a file, or of where a link points."""
        key = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\0{status.st_ino}"
        known = self.known.get(key)
        if known is None:
            self.new = True
            known = _digest_of(path, link=(status.st_mode & 0o170000) == 0o120000)
        self.used[key] = known
        return known

    def keep(self) -> None:
        """Write down what was used, if anything was new; a folder that cannot be written to costs time, no more."""
        if not self.new:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            aside = self.path.with_suffix(f".{os.getpid()}")
            aside.write_text(json.dumps({**self.known, **self.used}))
            aside.replace(self.path)
        except OSError:
            return


def _digest_of(path: str, *, link: bool) -> str:
    if link:
        return hashlib.sha256(os.fsencode(Path(path).readlink())).hexdigest()
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(binds: tuple[Bind, ...], masked: frozenset[str], cache: Cache) -> Digest:
    """One digest over all that is bound: sorted (path inside, size, SHA-256); folders in `masked` are not seen."""
    rows = []
    for bind in binds:
        if bind.source.is_dir():
            found = [(f"{bind.target}/{name}", status, path) for name, status, path in _walk(bind.source, masked)]
        else:
            found = [(bind.target, bind.source.stat(), str(bind.source))]
        rows += [f"{name}\0{status.st_size}\0{cache.digest(path, status)}\n" for name, status, path in found]
    cache.keep()
    return Digest("sha256:" + hashlib.sha256("".join(sorted(rows)).encode()).hexdigest())


def _package_folder(name: str) -> Path:
    """Where the governor's own interpreter keeps a package, without importing it."""
    for folder in sys.path:
        if folder and (Path(folder) / name).is_dir():
            return Path(folder) / name
    raise Unavailable(f"the runtime needs the package `{name}`, which is not installed", help=f"install `{name}`")


def _programs() -> dict[str, Path]:
    """The programs of the runtime "shell", by the path at which scripts expect them; links lead to their files."""
    found = {name: shutil.which(name, path=PROGRAM_FOLDERS) for name in ("sh", *PROGRAMS, *MORE_PROGRAMS)}
    missing = [name for name in ("sh", *PROGRAMS) if found[name] is None]
    if missing:
        raise Unavailable(f"the runtime `shell` needs {', '.join(missing)}", help="install them: coreutils, bash, grep")
    there = {f"/usr/bin/{name}": Path(path).resolve() for name, path in found.items() if path is not None}
    return there | {f"/bin/{name}": there[f"/usr/bin/{name}"] for name in ("sh", "bash")}


def _elf_files(folder: Path) -> list[Path]:
    found = [Path(path) for name, _, path in _walk(folder, frozenset()) if ".so" in name]
    return [path for path in found if not path.name.startswith(UNUSED_MODULES)]


def resolve(name: str, cache_file: Path) -> Runtime:
    """The runtime called `name`, around the interpreter that runs this; raises `Unavailable` for an unknown one.

    A virtual environment leads to its base. Inside, everything lies under `/runtime`, at the layout that the
    interpreter finds by itself; shared libraries lie where the dynamic linker looks.
    """
    if name not in NAMES:
        raise Unavailable(f"there is no runtime `{name}`; there are {', '.join(NAMES)}", help="name one of them")
    label = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix = Path(sys.base_prefix)
    binary, library = (prefix / "bin" / label).resolve(), Path(os.__file__).resolve().parent
    if not binary.is_file():
        raise Unavailable(f"the interpreter `{binary}` is not there", help="run Keyturn with an installed Python")
    packages = [_package_folder(package) for package in PACKAGES.get(name, ()) if package != "numpy.libs"]
    packages += [folder for package in packages if (folder := package.with_name(f"{package.name}.libs")).is_dir()]
    elf = [file for folder in packages for file in _elf_files(folder)]
    bundled = frozenset(file.name for file in elf)
    needed = libraries([binary, *_elf_files(library / "lib-dynload"), *elf], (prefix / "lib",), bundled)
    programs = _programs() if name == "shell" else {}
    needed = libraries([*programs.values()], (), frozenset()) | needed
    inside = f"{INSIDE}/lib/{label}"
    site = f"{INSIDE}/lib/python3/dist-packages" if (library.parent / "python3" / "dist-packages").is_dir() else ""
    site = site or f"{inside}/site-packages"
    masks = [path for pattern in MASKED for path in sorted(library.glob(pattern)) if path.is_dir()]
    binds = [Bind(binary, f"{INSIDE}/bin/python3"), Bind(library, inside)]
    binds += [Bind(folder, f"{site}/{folder.name}") for folder in packages]
    binds += [Bind(binary, f"{INSIDE}/bin/python")] if programs else []
    binds += [Bind(source, target) for target, source in sorted({**needed, **programs}.items())]
    return Runtime(
        name=name,
        python=f"{INSIDE}/bin/python3",
        binds=tuple(binds),
        masks=tuple(f"{inside}/{path.name}" for path in masks),
        digest=digest(tuple(binds), frozenset(map(str, masks)), Cache(cache_file)),
    )
