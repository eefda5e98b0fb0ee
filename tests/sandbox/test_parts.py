"""The parts that need no sandbox: the filter's bytes, the runtime's files, the limits of a cgroup, the port's words."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import struct
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core.errors import InvariantBroken, Unavailable
from keyturn.sandbox import cgroups, open_backend, runtime, seccomp
from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.cgroups import Layout, Leaf
from keyturn.sandbox.command import STAGE, compiled_init, reachable
from keyturn.sandbox.port import Bind, Exit, Runtime

X86, ARM = "x86_64", "aarch64"
PROGRAM = seccomp.program(X86, seccomp.table())


def evaluate(program: bytes, number: int, arguments: tuple[int, ...] = (), architecture: int | None = None) -> int:
    """A small machine for classic BPF, written apart from the generator: what the filter answers to one call."""
    code = list(struct.iter_unpack("<HBBI", program))
    machine = architecture if architecture is not None else seccomp.MACHINES[X86][0]
    data = struct.pack("<IIQ6Q", number, machine, 0, *(tuple(arguments) + (0,) * 6)[:6])
    word, at = 0, 0
    while True:
        operation, yes, no, value = code[at]
        at += 1
        if operation == 0x20:
            word = struct.unpack_from("<I", data, value)[0]
        elif operation == 0x06:
            return int(value)
        else:
            taken = {0x15: word == value, 0x35: word >= value, 0x45: bool(word & value)}[operation]
            at += yes if taken else no


def test_each_filter_is_the_one_on_record() -> None:
    for machine in seccomp.MACHINES:
        made = seccomp.program(machine, seccomp.table())
        assert hashlib.sha256(made).hexdigest() == seccomp.DIGESTS[machine]
        assert len(made) // 8 < 4096


def test_a_changed_filter_stops_us(monkeypatch: pytest.MonkeyPatch) -> None:
    seccomp.for_this_machine.cache_clear()
    monkeypatch.setitem(seccomp.DIGESTS, platform.machine(), "0" * 64)
    with pytest.raises(InvariantBroken):
        seccomp.for_this_machine()
    seccomp.for_this_machine.cache_clear()


def test_a_machine_without_a_filter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    seccomp.for_this_machine.cache_clear()
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    with pytest.raises(Unavailable) as caught:
        seccomp.for_this_machine()
    assert caught.value.message == "no system call filter for `vax`; there is one for x86_64, aarch64"
    seccomp.for_this_machine.cache_clear()


@pytest.mark.parametrize("machine", [X86, ARM])
def test_every_listed_call_is_allowed_and_no_other(machine: str) -> None:
    architecture, column = seccomp.MACHINES[machine]
    program = seccomp.program(machine, seccomp.table())
    special = {"clone", "clone3", "socket", "socketpair", "ioctl", "prctl", "fcntl", "flock"}
    special |= {"prlimit64", "sched_setaffinity"}
    listed = {row[column] for name, row in seccomp.table().items() if name not in special}
    decided = {row[column] for name, row in seccomp.table().items() if name in special}
    for number in range(600):
        if number not in decided:
            wanted = seccomp.ALLOW if number in listed else seccomp.ERRNO | seccomp.ENOSYS
            assert evaluate(program, number, architecture=architecture) == wanted, number


@pytest.mark.parametrize("machine", [X86, ARM])
@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("clone", (17,), seccomp.ALLOW),
        ("clone", (0x10000000,), seccomp.ERRNO | seccomp.EPERM),
        ("clone", (0x20000 | 17,), seccomp.ERRNO | seccomp.EPERM),
        ("clone3", (), seccomp.ERRNO | seccomp.ENOSYS),
        ("socket", (1,), seccomp.ALLOW),
        ("socket", (2,), seccomp.ERRNO | seccomp.EAFNOSUPPORT),
        ("socket", (40,), seccomp.ERRNO | seccomp.EAFNOSUPPORT),
        ("socket", (1 << 32 | 2,), seccomp.ERRNO | seccomp.EAFNOSUPPORT),
        ("ioctl", (0, 0x5401), seccomp.ALLOW),
        ("ioctl", (0, 0x5412), seccomp.ERRNO | seccomp.ENOTTY),
        ("ioctl", (0, 1 << 32 | 0x5412), seccomp.ERRNO | seccomp.ENOTTY),
        ("prctl", (22,), seccomp.ERRNO | seccomp.EINVAL),
        ("prctl", (15,), seccomp.ALLOW),
        ("fcntl", (0, 1), seccomp.ALLOW),
        ("fcntl", (0, 6), seccomp.ERRNO | seccomp.ENOLCK),
        ("flock", (0, 2), seccomp.ERRNO | seccomp.ENOLCK),
        ("prlimit64", (0, 7), seccomp.ALLOW),
        ("prlimit64", (1, 0), seccomp.ERRNO | seccomp.EPERM),
        ("prlimit64", (1 << 32 | 1, 0), seccomp.ERRNO | seccomp.EPERM),
        ("sched_setaffinity", (0,), seccomp.ALLOW),
        ("sched_setaffinity", (1,), seccomp.ERRNO | seccomp.EPERM),
    ],
)
def test_arguments_decide_where_they_must(machine: str, name: str, arguments: tuple[int, ...], answer: int) -> None:
    architecture, column = seccomp.MACHINES[machine]
    number = seccomp.table()[name][column]
    assert number is not None
    assert evaluate(seccomp.program(machine, seccomp.table()), number, arguments, architecture) == answer


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1).filter(lambda a: a != seccomp.MACHINES[X86][0]))
def test_every_call_of_another_architecture_kills(number: int, architecture: int) -> None:
    assert evaluate(PROGRAM, number, architecture=architecture) == seccomp.KILL


@given(st.integers(0x40000000, 2**32 - 1))
def test_every_call_through_x32_kills(number: int) -> None:
    assert evaluate(PROGRAM, number) == seccomp.KILL


def test_the_numbers_are_those_of_the_kernels_headers() -> None:
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    known = {"read": 0, "openat": 257, "landlock_restrict_self": 446, "clone3": 435, "socket": 41, "fcntl": 72}
    if header.exists():
        known |= {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", header.read_text())}
    wrong = {name: row[0] for name, row in seccomp.table().items() if name in known and row[0] != known[name]}
    assert wrong == {}


def test_a_runtime_has_everything_that_its_files_need(tmp_path: Path) -> None:
    made = runtime.resolve("python", tmp_path / "cache.json")
    assert Path(sys.base_prefix, "lib").exists()
    targets = [bind.target for bind in made.binds]
    assert len(targets) == len(set(targets))
    assert "/runtime/bin/python3" in targets
    assert any(target.endswith("/libc.so.6") for target in targets)
    assert any(re.search(r"/ld-linux", target) for target in targets)
    assert any(mask.endswith("/test") for mask in made.masks)


def test_a_digest_changes_with_any_byte_and_any_name_and_with_nothing_else(tmp_path: Path) -> None:
    library = tmp_path / "library"
    (library / "part" / "__pycache__").mkdir(parents=True)
    (library / "part" / "a.py").write_text("a")
    cache = tmp_path / "cache.json"

    def digest(**masked: str) -> str:
        return runtime.digest((Bind(library, "/runtime/x"),), frozenset(masked.values()), runtime.Cache(cache))

    first = digest()
    (library / "part" / "__pycache__" / "a.pyc").write_bytes(b"derived")
    assert digest() == first
    cache.write_text("not json")
    assert digest() == first
    (library / "part" / "a.py").write_text("b")
    second = digest()
    (library / "part" / "b.py").write_text("")
    third = digest()
    assert len({first, second, third}) == 3
    assert digest(masked=str(library / "part")) not in {first, second, third}


def test_a_cached_digest_is_not_taken_for_a_changed_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    before = file.stat()
    cache = runtime.Cache(tmp_path / "cache.json")
    first = cache.digest(str(file), before)
    file.write_bytes(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cache.digest(str(file), file.stat()) != first


def test_an_unknown_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        runtime.resolve("node", tmp_path / "cache.json")
    assert caught.value.message == "there is no runtime `node`; there are python, python-numpy, shell"


def test_what_is_no_program_needs_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.so").write_text("INPUT(libc.so)")
    assert runtime.elf_needs(tmp_path / "x.so") == ([], None)


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A cgroup v2 root with controllers, played by plain files."""
    real = Path.mkdir

    def mkdir(self: Path, *arguments: int, **words: bool) -> None:
        real(self, *arguments, **words)  # type: ignore[arg-type]  # handed through as it came
        if self.parent == tmp_path:
            names = ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max", "cgroup.kill")
            for name in names:
                (self / name).touch()

    monkeypatch.setattr(Path, "mkdir", mkdir)
    return Layout(tmp_path, {}, frozenset({"memory", "pids", "cpu"}))


def test_limits_are_written_where_one_hierarchy_has_the_controllers(pretended: Layout) -> None:
    leaf = Leaf.make(pretended, "one", memory_bytes=1 << 20, processes_max=9)
    assert leaf.folder is not None
    held = {name: (leaf.folder / name).read_text() for name in ("memory.max", "memory.swap.max", "memory.oom.group")}
    assert held == {"memory.max": "1048576", "memory.swap.max": "0", "memory.oom.group": "1"}
    assert leaf.limits() == {"memory": 1 << 20, "pids": 9, "swap": 0, "cpu_thousandths": None}
    (leaf.folder / "memory.events").write_text("low 0\nmax 3\noom 1\noom_kill 1\n")
    (leaf.folder / "memory.peak").write_text("77\n")
    assert leaf.out_of_memory()
    assert leaf.memory_bytes_peak() == 77
    assert leaf.kill()
    os.close(leaf.fd)
    os.close(leaf.kill_fd)


def test_a_share_of_the_processors_is_written_and_lifted_for_the_kill(pretended: Layout) -> None:
    leaf = Leaf.make(pretended, "two", memory_bytes=1 << 20, processes_max=9, cpus=1.5)
    assert leaf.folder is not None
    assert (leaf.folder / "cpu.max").read_text() == "30000 20000"
    assert leaf.limits()["cpu_thousandths"] == 1500
    assert leaf.kill()
    assert (leaf.folder / "cpu.max").read_text().startswith("max"), "what is killed must get to run, so as to end"
    for fd in (leaf.fd, leaf.kill_fd, leaf.quota_fd):
        os.close(fd)


def test_a_limit_that_the_kernel_refuses_stops_the_launch(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        Leaf.make(Layout(tmp_path, {}, frozenset({"memory"})), "one", memory_bytes=1, processes_max=1)
    assert caught.value.message == "the kernel refused the limit `memory.max` of 1"


def test_whoever_lives_in_a_delegated_cgroup_is_moved_before_any_controller_is_turned_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "controllers": "cpu memory pids",
        "subtree_control": "",
        "type": "domain",
        "procs": "7\n",
    }.items():
        (tmp_path / f"cgroup.{name}").write_text(text)
    written: list[tuple[str, str]] = []

    def write(path: Path, text: str) -> bool:
        written.append((path.relative_to(tmp_path).as_posix(), text))
        return True

    monkeypatch.setattr(cgroups, "_write", write)
    cgroups._turn_on(tmp_path)
    aside = f"{cgroups.ASIDE}/cgroup.procs"
    turned_on = [("cgroup.subtree_control", f"+{name}") for name in sorted(cgroups.CONTROLLERS)]
    assert written == [(aside, str(os.getpid())), (aside, "7"), *turned_on]


def test_nobody_is_moved_out_of_the_topmost_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"controllers": "memory pids", "subtree_control": "", "procs": "1\n"}.items():
        (tmp_path / f"cgroup.{name}").write_text(text)  # the topmost one has no `cgroup.type`
    written: list[str] = []
    monkeypatch.setattr(cgroups, "_write", lambda path, text: written.append(path.name) or True)
    cgroups._turn_on(tmp_path)
    assert set(written) == {"cgroup.subtree_control"}


def test_a_machine_without_cgroups_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "_mounts", lambda: (None, {}))
    layout = cgroups.discover("x")
    assert not layout.usable
    assert layout.weaker == (("cgroup", "no cgroup v2 is mounted"),)
    leaf = Leaf.make(layout, "x", memory_bytes=1, processes_max=1)
    assert (leaf.kill(), leaf.populated(), leaf.processes(), leaf.cpu_seconds()) == (False, False, [], None)


def test_only_an_undisturbed_end_is_clean() -> None:
    good = Exit("exited", 0, None, 0.0, 0.0, 0, (), b"")
    assert good.clean
    assert not Exit("exited", 0, None, 0.0, 0.0, 1, (), b"").clean
    assert not Exit("halted", 0, None, 0.0, 0.0, 0, (), b"").clean


def test_opening_a_backend_starts_nothing(tmp_path: Path) -> None:
    backend = open_backend(tmp_path / "run", runtime_cache=tmp_path / "cache.json")
    assert not (tmp_path / "run").exists()
    backend.close()


def test_the_port_is_loaded_without_the_kernels_side() -> None:
    import subprocess

    code = (
        "import sys, keyturn.sandbox.port\n"
        "print([name for name in ('ctypes', 'numpy', 'subprocess') if name in sys.modules])"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(ran.stdout.replace("'", '"')) == []
    assert Runtime.__doc__


def test_what_was_not_proven_without_a_cgroup_is_not_proven_by_looking_again(tmp_path: Path) -> None:
    backend = Bubblewrap(tmp_path, runtime_cache=tmp_path.parent / "runtime.json")
    backend._layout = Layout(None, {}, frozenset())
    (tmp_path / "improve-1").mkdir()  # an earlier governor left it, and maybe a process
    first, second = backend.sweep(), backend.sweep()
    assert (first.state, second.state) == ("UNPROVEN", "UNPROVEN")
    assert not (tmp_path / "improve-1").exists()
    (tmp_path / "unproven").write_text("the boot before")
    assert backend.sweep().state == "STOPPED"  # no process outlives a boot


def test_init_loads_nothing_that_would_slow_each_launch() -> None:
    import subprocess

    heavy = "{'enum', 're', 'json', 'signal', 'socket'}"
    code = f"import sys; sys.path.insert(0, sys.argv[1]); import init; print(*{heavy} & {{*sys.modules}})"
    place = Path(runtime.__file__).parent / "alone"
    command = [sys.executable, "-I", "-S", "-B", "-c", code, str(place)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "\n"


def test_init_is_compiled_once_into_a_file_that_python_takes(tmp_path: Path) -> None:
    import subprocess

    file = tmp_path / "init.py"
    file.write_bytes(Path(f"/proc/self/fd/{compiled_init()}").read_bytes())
    assert compiled_init() == compiled_init()
    ended = subprocess.run(
        [sys.executable, "-I", "-S", str(file)], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert ended.returncode == 2  # it ran, and had no lease
    assert ended.stderr.startswith(b"keyturn init: ")


def test_only_what_every_user_can_reach_is_not_staged(tmp_path: Path) -> None:
    closed, dark, link = tmp_path / "closed", tmp_path / "dark", tmp_path / "link"
    closed.mkdir()
    for place in (closed / "file", dark):
        place.touch()
    link.symlink_to(closed / "file")
    (closed / "file").chmod(0o644)
    closed.chmod(0o700)
    dark.chmod(0o600)
    assert reachable(Path("/usr/bin/env"))
    assert not any(map(reachable, (closed, closed / "file", dark, link, tmp_path / "absent")))


def test_what_lies_below_the_stage_is_staged_and_a_link_through_it_is_followed_first() -> None:
    below = Path(tempfile.mkdtemp(dir=STAGE))  # as a checkout in /tmp has its packages; the stage would hide them
    (below / "link").symlink_to("/usr/bin/env")
    (below / "file").write_text("")
    try:
        for place in (below, below / "file"):
            place.chmod(0o755)
        assert reachable(below / "file") is None
        assert reachable(below / "link") == str(Path("/usr/bin/env").resolve())
    finally:
        shutil.rmtree(below)
