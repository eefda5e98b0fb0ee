"""What a subject tries from inside, and what it meets."""

from __future__ import annotations

import fcntl
import os
import select
import signal
from pathlib import Path

import pytest

from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.sandbox import seccomp
from keyturn.sandbox.attest import status_of
from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.port import Limits, Mount
from tests.sandbox.conftest import LIMITS, Inside, specification

pytestmark = pytest.mark.root

TRY = """
import ctypes, errno, os, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
def tried(name, act):
    try:
        act()
    except OSError as error:
        print(name, errno.errorcode[error.errno])
    else:
        print(name, "BREACH")
def call(number, *arguments):
    if libc.syscall(ctypes.c_long(number), *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
"""


def answers(text: str) -> dict[str, str]:
    return dict(line.rsplit(" ", 1) for line in text.splitlines())


def test_the_subject_runs_under_a_host_user_of_its_own(inside: Inside) -> None:
    seen = set()
    for _ in range(2):
        running = inside.start("import time; time.sleep(30)")
        users = {word for pid in running._cell.processes() for word in status_of(pid)["Uid"].split()}
        seen |= users
        assert users.isdisjoint({"0", str(os.geteuid())})
    assert len(seen) == 2


def test_the_environment_is_what_the_spec_says_and_no_more(inside: Inside) -> None:
    said = inside.says("import os; print(sorted(os.environ.items()))", environment={"KEYTURN_GENERATION": "3"})
    assert said.strip() == "[('KEYTURN_GENERATION', '3')]"


def test_no_network_can_be_reached(inside: Inside) -> None:
    code = (
        TRY
        + """
for family in range(2, 48):  # every family but AF_UNIX: internet, netlink, packet, vsock, alg, xdp, ...
    number = 41 if os.uname().machine == "x86_64" else 198
    tried(str(family), lambda: call(number, ctypes.c_long(family), ctypes.c_long(1), ctypes.c_long(0)))
socket.socketpair()[0].close()
"""
    )
    assert set(answers(inside.says(code)).values()) == {"EAFNOSUPPORT"}


def test_an_abstract_socket_of_the_host_cannot_be_reached(inside: Inside) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        name = "\0keyturn-test-" + os.urandom(4).hex()
        listener.bind(name)
        listener.listen()
        said = inside.says(TRY + f"tried('abstract', lambda: socket.socket(socket.AF_UNIX).connect({name!r}))")
    assert answers(said)["abstract"] in {"ECONNREFUSED", "EPERM", "EACCES"}


def test_no_file_of_the_host_can_be_read(inside: Inside, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("canary")
    secret.chmod(0o644)
    places = ["/etc/passwd", "/etc/shadow", str(secret), __file__, "/proc/kcore", "/proc/kallsyms/x", "/sys/kernel"]
    said = inside.says(
        TRY + f"for p in {places!r}: tried(p, lambda: os.listdir(p) if os.path.isdir(p) else open(p).read())"
    )
    assert "BREACH" not in said
    assert set(answers(said)) == set(places)


def test_where_the_kernels_functions_lie_is_not_shown_even_where_the_machine_shows_it(inside: Inside) -> None:
    said = inside.says(TRY + "tried('kallsyms', lambda: open('/proc/kallsyms').readline())")
    assert answers(said) == {"kallsyms": "EACCES"}


def test_only_its_own_places_can_be_written_to(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "parent").mkdir()
    (tmp_path / "parent" / "weights").write_bytes(b"w")
    places = [
        "/x",
        "/parent/x",
        "/parent/weights",
        "/dev/x",
        "/runtime/x",
        "/keyturn/x",
        "/runtime/lib/x",
        "/proc/1/comm",
    ]
    places += ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/sys/x"]
    code = (
        TRY
        + f"for p in {places!r}: tried(p, lambda: open(p, 'ab').close())\n"
        + "for p in ('/tmp/x', '/out/x'): open(p, 'w').close()"
    )
    said = inside.says(code, mounts=(Mount(tmp_path / "parent", "/parent"),), out=True)
    assert "BREACH" not in said
    assert set(answers(said)) == set(places)


def test_nothing_that_it_wrote_can_be_run(inside: Inside) -> None:
    code = (
        TRY
        + """
for place in ("/tmp/tool", "/dev/shm/tool"):
    with open(place, "wb") as file:
        file.write(open("/runtime/bin/python3", "rb").read(1 << 20))
    os.chmod(place, 0o755)
    tried(place, lambda: os.execve(place, [place], {}))
"""
    )
    assert set(answers(inside.says(code)).values()) == {"EACCES"}


def test_the_dead_mans_switch_cannot_be_disarmed(inside: Inside) -> None:
    code = (
        TRY
        + """
for name in ("mem", "environ", "fd/3", "root", "cwd", "exe", "map_files"):
    folder = name in ("map_files", "root", "cwd")
    tried(name, lambda: os.listdir("/proc/1/" + name) if folder else os.open("/proc/1/" + name, os.O_RDWR))
tried("kill", lambda: os.kill(1, 0))
tried("stop", lambda: os.kill(1, 19))
tried("ptrace", lambda: call(101, ctypes.c_long(16), ctypes.c_long(1), None, None))
tried("process_vm_readv", lambda: call(310, ctypes.c_long(1), None, None, None, None, None))
tried("pidfd_getfd", lambda: call(438, ctypes.c_long(os.pidfd_open(1)), ctypes.c_long(3), ctypes.c_long(0)))
for limit in (0, 7, 9):
    tried(f"prlimit-{limit}", lambda: call(302, ctypes.c_long(1), ctypes.c_long(limit), bytes(16), None))
tried("idle", lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)))
tried("nice", lambda: os.setpriority(os.PRIO_USER, 0, 19))
tried("affinity", lambda: os.sched_setaffinity(1, {0}))
"""
    )
    found = answers(inside.says(code))
    assert "BREACH" not in found.values()
    assert found["mem"] == "EACCES"
    assert found["kill"] == found["stop"] == "EPERM"


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("ptrace", 101), ("mount", 165), ("unshare", 272), ("setns", 308), ("keyctl", 250), ("bpf", 321),
        ("perf_event_open", 298), ("userfaultfd", 323), ("io_uring_setup", 425), ("fsopen", 430), ("open_tree", 428),
        ("memfd_create", 319), ("execveat", 322), ("inotify_init", 253), ("fanotify_init", 300), ("chroot", 161),
        ("name_to_handle_at", 303), ("open_by_handle_at", 304), ("kexec_load", 246), ("shmget", 29), ("clone3", 435),
        ("add_key", 248), ("seccomp", 317), ("personality", 135), ("mknod", 133), ("vmsplice", 278), ("syslog", 103),
        ("setpriority", 141), ("sched_setscheduler", 144), ("sched_setparam", 142), ("sched_setattr", 314),
        ("ioprio_set", 251),
    ],
)  # fmt: skip
def test_a_dangerous_call_is_not_on_the_list(name: str, number: int) -> None:
    table = seccomp.table()
    assert name == "clone3" or name not in table
    assert name == "clone3" or number not in [row[0] for row in table.values()]


def test_dangerous_calls_are_refused_by_the_kernel(inside: Inside) -> None:
    code = (
        TRY
        + """
numbers = {
    "x86_64": (101, 165, 272, 435, 308, 250, 321, 298, 323, 425, 430, 319, 322, 253, 300, 161, 303, 304, 29, 317, 135,
               56, 16),
    "aarch64": (117, 40, 97, 435, 268, 219, 280, 241, 282, 425, 430, 279, 281, 26, 262, 51, 264, 265, 194, 277, 92,
                220, 29),
}[os.uname().machine]  # ptrace, mount, unshare, clone3, setns, keyctl, bpf, ...; clone and ioctl last
for at, number in enumerate(numbers[:-2]):
    tried(str(at), lambda: call(number, None, None, None, None, None))
tried("newuser", lambda: call(numbers[-2], ctypes.c_long(0x10000000 | 17), None, None, None, None))
tried("tiocsti", lambda: call(numbers[-1], ctypes.c_long(0), ctypes.c_long(0x5412), b"x"))
import fcntl
shared = os.open("/runtime/bin/python3", os.O_RDONLY)
tried("flock", lambda: fcntl.flock(shared, 2))
tried("lockf", lambda: fcntl.fcntl(shared, 6, struct.pack("hhllhh", 0, 0, 0, 0, 0, 0)))
"""
    )
    found = answers(inside.says(code))
    assert "BREACH" not in found.values()
    assert {found[str(at)] for at in range(4)} == {"ENOSYS"}  # ptrace, mount, unshare, clone3
    assert (found["newuser"], found["tiocsti"], found["flock"], found["lockf"]) == (
        "EPERM",
        "ENOTTY",
        "ENOLCK",
        "ENOLCK",
    )


def test_no_lock_is_shared_even_on_what_belongs_to_no_file_system(inside: Inside) -> None:
    """Every epoll and eventfd of a kernel lies on one inode, in whatever namespaces and on whatever mounts."""
    with select.epoll() as ours:
        fcntl.flock(ours.fileno(), fcntl.LOCK_EX)
        with select.epoll() as theirs, pytest.raises(BlockingIOError):  # the control: outside it is a channel
            fcntl.flock(theirs.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        code = (
            TRY
            + """
import fcntl, select
shared = {"epoll": select.epoll().fileno, "eventfd": lambda: os.eventfd(0), "null": lambda: os.open("/dev/null", 2),
          "time": lambda: os.open("/proc/self/ns/time", 0)}
for name, opened in shared.items():
    tried(name, lambda: fcntl.flock(opened(), 2 | 4))
"""
        )
        assert answers(inside.says(code)) == dict.fromkeys(("epoll", "eventfd", "null", "time"), "ENOLCK")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="not run: the old call gate exists on x86-64 only")
def test_the_other_doors_of_the_architecture_kill(inside: Inside) -> None:
    end = inside.run(TRY + "call(0x40000000 | 39)")
    assert end.signal == signal.SIGSYS


def test_no_descriptor_leaks_in(inside: Inside, tmp_path: Path) -> None:
    canary = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(canary, True)
    try:
        said = inside.says(
            "import os\nfds = sorted(map(int, os.listdir('/proc/self/fd')))\n"
            "print([os.readlink(f'/proc/self/fd/{n}') for n in fds[:-1]])"
        )
    finally:
        os.close(canary)
    assert said.count("pipe:") == 2
    assert said.count("'") == 2 * 3
    assert "/dev/null" in said


def test_only_its_own_processes_are_seen(inside: Inside) -> None:
    assert (
        inside.says("import os; print(sorted(int(n) for n in os.listdir('/proc') if n.isdigit()))").strip() == "[1, 2]"
    )


def test_a_fork_bomb_is_contained(inside: Inside) -> None:
    code = """
import os, time
made = 0
try:
    while made < 500:
        if os.fork() == 0:
            time.sleep(60); os._exit(0)
        made += 1
except OSError:
    pass
print(made)
"""
    running = inside.start(code)
    end = running.wait()
    made = int(end.diagnostics.split()[-1])
    assert made < LIMITS.processes_max
    assert end.left_running == made
    assert running._cell.processes() == []


def test_a_memory_hog_is_contained_and_named(inside: Inside) -> None:
    end = inside.run(
        "hog = bytearray(1 << 30)\nfor n in range(0, 1 << 30, 4096): hog[n] = 1", limits=Limits(memory_bytes=64 << 20)
    )
    assert end.reason == "memory"
    assert not end.clean
    assert end.memory_bytes_peak is not None
    assert end.memory_bytes_peak <= 64 << 20


@pytest.mark.parametrize(("place", "most"), [("/tmp", 4 << 20), ("/out", 4 << 20), ("/dev/shm", 16 << 20)])
def test_filling_a_disk_is_contained(inside: Inside, place: str, most: int) -> None:
    code = f"""
written = 0
try:
    for n in range(100):
        with open("{place}/" + str(n), "wb", 0) as file:
            while written < 1 << 30: written += file.write(bytes(1 << 20))
except OSError as error:
    print(error.errno)
print(written)
"""
    errno, written = inside.says(code, out=True).split()
    assert errno == "28"
    assert int(written) <= most


def test_a_file_past_its_size_is_refused(inside: Inside) -> None:
    code = "open('/tmp/x', 'wb').write(bytes(3 << 20))"
    end = inside.run(code, limits=Limits(file_bytes_max=1 << 20, tmp_bytes=8 << 20))
    assert end.code == 1
    assert b"File too large" in end.diagnostics


def test_too_long_a_run_is_ended(inside: Inside) -> None:
    end = inside.run("import time; time.sleep(60)", limits=Limits(wall_seconds=0.3))
    assert (end.reason, end.code, end.signal) == ("wall", None, None)
    assert 0.3 <= end.wall_seconds < 0.6


def test_numpy_runs_inside(inside: Inside) -> None:
    said = inside.says(
        "import site; site.main()\n"  # the tests run Python without its libraries
        "import numpy; print(float((numpy.ones((64, 64)) @ numpy.ones((64, 64))).sum()))",
        runtime="python-numpy",
    )
    assert said.strip() == "262144.0"


def test_a_program_of_the_candidate_runs_as_the_contract_says(backend: Bubblewrap, tmp_path: Path) -> None:
    (tmp_path / "subject.py").write_text("import numpy, sys, os; print(sys.argv, os.getcwd(), numpy.arange(3).sum())")
    (tmp_path / "subject.py").chmod(0o600)
    tmp_path.chmod(0o700)
    spec = specification(backend, "", runtime="python-numpy", mounts=(Mount(tmp_path, "/candidate"),))
    from dataclasses import replace

    parked = backend.prepare(replace(spec, argv=("python", "/candidate/subject.py", "answer")))
    running = parked.go()
    end = running.wait()
    running.close()
    assert end.diagnostics.decode().strip() == "['/candidate/subject.py', 'answer'] /tmp 3"


@pytest.mark.parametrize("target", ["parent", "/", "/proc/x", "/runtime", "/a/../b", "/tmp"])
def test_a_mount_in_a_place_of_ours_is_refused(inside: Inside, tmp_path: Path, target: str) -> None:
    with pytest.raises(MalformedInput):
        inside.park("", mounts=(Mount(tmp_path, target),))


def test_what_is_not_there_cannot_be_mounted(inside: Inside, tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        inside.park("", mounts=(Mount(tmp_path / "absent", "/parent"),))
    assert caught.value.message == f"`{tmp_path / 'absent'}` is not there to be mounted"


def test_a_program_that_is_not_there_says_so(backend: Bubblewrap) -> None:
    from dataclasses import replace

    running = backend.prepare(replace(specification(backend, ""), argv=("/nothing",))).go()
    end = running.wait()
    running.close()
    assert end.code == 126
    assert b"could not be started" in end.diagnostics
