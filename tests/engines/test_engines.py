"""What the engines' backends are made of, without a server; and who keeps them when their client is missing."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.sandbox import open_backend, seccomp
from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.command import ALONE
from keyturn.sandbox.engines.backend import Contained, command
from keyturn.sandbox.engines.choice import Choice, require_digest
from keyturn.sandbox.engines.docker import Docker
from keyturn.sandbox.engines.port import Order, Place
from keyturn.sandbox.engines.profile import ARCHITECTURES, profile, spare_init
from keyturn.sandbox.engines.required import compare
from keyturn.sandbox.port import Decoy, Mount, Runtime, Spec
from tests.engines.docker_server import DockerServer
from tests.engines.room import DIGEST, IMAGE

SPEC = Spec("improve", ("python",), Runtime("python", "python3", (), (), require_digest(IMAGE)))
ORDER = Order("improve-1", "tag", IMAGE, ("python3",), 70000, (Place("/tmp", 4096),), SPEC)
SEEN: dict[str, Any] = {
    "status": {
        "Uid": "70000\t70000\t70000\t70000", "Gid": "70000\t70000\t70000\t70000", "Groups": "", "NoNewPrivs": "1",
        "Seccomp": "2", **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0000000000000000"),
    },
    "mounts": [["/", "overlay", ["ro"]], ["/proc", "proc", ["rw"]], ["/tmp", "tmpfs", ["nodev", "noexec", "nosuid"]],
               ["/etc/hosts", "ext4", ["rw"]], ["/dev", "tmpfs", ["rw"]], ["/sys", "sysfs", ["ro"]]],
    "network_devices": ["lo"], "version": "Linux version 6", "gvisor": False, "landlock_abi": 7, "processes": 1,
    "decoys_watched": 0, "python": "3.11", "machine": "x86_64",
}  # fmt: skip  # what init says
BOUNDS = frozenset({"nosuid", "nodev", "noexec"})


def problems(gvisor: bool = False, **changes: Any) -> tuple[str, ...]:
    return compare(ORDER, {**SEEN, **changes}, gvisor=gvisor, bounds=BOUNDS)[1]


def status(**changes: str) -> dict[str, Any]:
    return {"status": {**SEEN["status"], **changes}}


def test_what_is_as_ordered_is_sound() -> None:
    assert problems() == ()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (status(Uid="0\t0\t0\t0"), "init runs as users and groups"),
        (status(Groups="0"), "init runs as users and groups"),
        (status(CapEff="0000000000200000"), "init holds capabilities"),
        (status(NoNewPrivs="0"), "init may gain privileges"),
        (status(Seccomp="0"), "no system call filter of the engine's is on init"),
        ({"status": {}}, "init holds capabilities"),
        ({"mounts": None}, "the mounts could not be read"),
        ({"mounts": [["/", "overlay", ["rw"]]]}, "the root is writable"),
        ({"mounts": [*SEEN["mounts"], ["/host", "ext4", ["ro"]]]}, "`/host` (ext4) was not ordered"),
        ({"mounts": [["/tmp", "tmpfs", ["nosuid", "nodev"]]]}, "`/tmp` lacks noexec"),
        ({"mounts": [["/tmp", "ext4", ["nosuid", "nodev", "noexec"]]]}, "`/tmp` is no folder in memory"),
        ({"network_devices": ["lo", "eth0"]}, "there are network devices"),
        ({"processes": 2}, "2 processes are in the parked container"),
        ({"decoys_watched": 1}, "not every decoy is watched"),
        ({}, "this is not gVisor"),
    ],
)
def test_what_init_sees_otherwise_is_a_problem(changes: dict[str, Any], expected: str) -> None:
    found = problems(gvisor=expected == "this is not gVisor", **changes)
    assert any(each.startswith(expected) for each in found), found


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_engines_filter_allows_no_call_that_ours_refuses(machine: str) -> None:
    calls = json.loads(profile(machine))
    known = {name for name, row in seccomp.table().items() if row[seccomp.MACHINES[machine][1]] is not None}
    plain = {name for row in calls["syscalls"] if "args" not in row and "errnoRet" not in row for name in row["names"]}
    more = plain - known
    assert calls["defaultAction"] == "SCMP_ACT_ERRNO"
    assert more <= {"inotify_init1", "inotify_add_watch", "capget", "capset", "setuid", "setgid", "setgroups", "fchown",
                    "mkdirat", "statfs", "fstatfs"}  # fmt: skip  # one set
    assert not plain & {"socket", "clone", "clone3", "ptrace", "mount", "bpf", "keyctl", "io_uring_setup", "unshare"}
    assert len(spare_init(machine)) % 8 == 0


def test_our_init_runs_as_the_first_process_of_a_container_only() -> None:
    ran = subprocess.run([sys.executable, *command("x")[1:]], capture_output=True, text=True, check=False, input="")
    assert (ran.returncode, ran.stderr) == (
        1, "keyturn: contained.py is the first process of a container and of nothing else\n",
    )  # fmt: skip  # one pair


def test_without_a_word_the_sandbox_is_bubblewrap_and_no_client_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from keyturn.sandbox import open_backend; import keyturn.app.sealed;"
        f"open_backend(Path({str(tmp_path)!r}), runtime_cache=Path('x'));"
        "assert not {'docker', 'kubernetes', 'requests'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, env={"PYTHONPATH": "src"}).returncode == 0
    assert isinstance(open_backend(tmp_path, runtime_cache=tmp_path / "x", choice=Choice()), Bubblewrap)


def test_the_chosen_engine_is_opened_and_nothing_is_asked_of_it(tmp_path: Path) -> None:
    for choice in (Choice("docker", IMAGE, socket="/nowhere"), Choice("kubernetes", IMAGE, context="nowhere")):
        made = open_backend(tmp_path, runtime_cache=tmp_path / "x", choice=choice)
        assert isinstance(made, Contained)
        assert made.runtime("python").digest == DIGEST
        made.close()


@pytest.mark.parametrize("engine", ["docker", "kubernetes"])
def test_a_client_that_is_not_installed_is_named_with_its_extra(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(Unavailable) as caught:
        open_backend(tmp_path, runtime_cache=tmp_path / "x", choice=Choice(engine, IMAGE))
    assert caught.value.help == f"pip install 'keyturn[{engine}]'"


def test_an_engine_that_is_not_there_gives_tier_0_and_says_so(tmp_path: Path) -> None:
    made = Contained(tmp_path, Docker(IMAGE, address=str(tmp_path / "none.sock")))
    found = made.capabilities()
    assert (found.tier, found.missing[0].what) == ("T0", "a container")
    assert "the docker engine, asked to answer" in found.missing[0].why
    assert made.sweep().state == "UNPROVEN"
    made.close()


def test_what_cannot_be_laid_out_in_a_container_is_refused_before_one_is_made(tmp_path: Path) -> None:
    made = Contained(tmp_path, Docker(IMAGE, address=str(tmp_path / "none.sock")))
    (tmp_path / "file").write_bytes(b"x")
    for changes in ({"decoys": (Decoy("d", "/d"),)}, {"mounts": (Mount(tmp_path / "file", "/file"),)}):
        with pytest.raises(MalformedInput):
            made.prepare(replace(SPEC, **changes))
    made.close()


def test_our_init_is_small_enough_to_travel_in_a_command() -> None:
    assert all(len(word) < 120_000 for word in command("x"))
    assert sum(map(len, command("x"))) < 100_000
    assert machine_is_known()
    assert all((ALONE / name).is_file() for name in ("init.py", "surroundings.py", "contained.py"))


def machine_is_known() -> bool:
    return platform.machine() in ARCHITECTURES


def test_the_doctor_looks_at_the_engine_that_the_project_names(tmp_path: Path) -> None:
    from keyturn.app.machine.doctor import doctor

    server = DockerServer(tmp_path)
    text = f'[sandbox]\nengine = "docker"\nimage = "{IMAGE}"\nsocket = "{server.address}"\n'
    (tmp_path / "operation.toml").write_text(text)
    found = doctor(tmp_path)
    server.stop()
    assert found.tier == "T1"
    assert any(row.name == "docker" and row.what == "fake" for row in found.rows)
    assert any(each.startswith("kernel: the container shares") for each in found.weaker)
    assert server.rooms == {}, "the probe was removed"
