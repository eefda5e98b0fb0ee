"""What is attested is what the kernel enforces, and two runs of one configuration give equal facts."""

from __future__ import annotations

import os
import platform
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keyturn.core.terms import Tier
from keyturn.sandbox import attest, bubblewrap, command
from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.launching.launcher import Launcher
from keyturn.sandbox.port import Attestation, Decoy, Mount
from tests.sandbox.conftest import LIMITS, Inside, specification

pytestmark = pytest.mark.root


def test_a_parked_sandbox_reaches_the_default_tier(inside: Inside) -> None:
    seen = inside.park("pass", out=True).attest()
    assert (seen.tier, seen.problems, seen.weaker) == (Tier.T2, (), ())
    init = seen.facts["init"]
    assert isinstance(init, dict)
    assert init["user"] == "own"
    assert init["namespaces"] == dict.fromkeys(("user", "pid", "mnt", "net", "ipc", "uts", "cgroup"), "own")
    limits = {"memory": LIMITS.memory_bytes, "pids": LIMITS.processes_max + 2, "swap": 0, "cpu_thousandths": None}
    assert seen.facts["limits"] == limits
    assert all(row.ok for row in seen.rows)
    assert seen.facts["network_devices"] == ["lo"]


def test_two_runs_of_one_configuration_give_equal_facts(inside: Inside, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"out": True, "mounts": (Mount(tmp_path, "/parent"),), "decoys": (Decoy("k", "/k"),)}
    first, second = (inside.park("pass", **changes).attest() for _ in range(2))
    assert first == second


def test_facts_name_no_process_and_no_place_of_this_machine(inside: Inside, tmp_path: Path) -> None:
    parked = inside.park("pass", mounts=(Mount(tmp_path, "/parent"),))
    text = str(parked.attest().facts)
    assert parked.id not in text
    assert str(tmp_path) not in text


def test_another_configuration_gives_other_facts(inside: Inside) -> None:
    assert inside.park("pass").attest().facts != inside.park("pass", out=True).attest().facts


def weakened(backend: Bubblewrap, monkeypatch: pytest.MonkeyPatch, change: Any, **more: Any) -> Attestation:
    """Attest a sandbox whose launch was tampered with."""
    real = bubblewrap.launch_request

    def tampered(*arguments: Any, **words: Any) -> Any:
        request = real(*arguments, **words)
        change(request)
        return request

    monkeypatch.setattr(bubblewrap, "launch_request", tampered)
    parked = backend.prepare(replace(specification(backend, "pass"), **more))
    try:
        return parked.attest()
    finally:
        parked.close()


def without(*flags: str) -> Any:
    def change(request: dict[str, Any]) -> None:
        for flag in flags:
            request["argv"].remove(flag)

    return change


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--unshare-net",), "init: namespace net is governor's; own is required"),
        (("--unshare-ipc",), "init: namespace ipc is governor's; own is required"),
        (("--unshare-uts", "--hostname", "keyturn"), "init: namespace uts is governor's; own is required"),
        (("--unshare-cgroup",), "init: namespace cgroup is governor's; own is required"),
        (("--seccomp", "4"), "init: seccomp mode is 0; 2 is required"),
    ],
)
def test_each_missing_wall_is_noticed(
    backend: Bubblewrap, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], problem: str
) -> None:
    seen = weakened(backend, monkeypatch, without(*flags))
    assert problem in seen.problems
    assert seen.tier == Tier.T0


def test_a_writable_root_is_noticed(backend: Bubblewrap, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(request: dict[str, Any]) -> None:
        at = len(request["argv"]) - request["argv"][::-1].index("--remount-ro") - 1
        del request["argv"][at : at + 2]

    assert weakened(backend, monkeypatch, change).problems == ("mount /: writable is yes; no is required",)


def test_a_writable_mount_is_noticed(backend: Bubblewrap, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def change(request: dict[str, Any]) -> None:
        at = request["argv"].index("/parent")
        request["argv"][at - 2] = "--bind"

    seen = weakened(backend, monkeypatch, change, mounts=(Mount(tmp_path, "/parent"),))
    assert seen.problems == ("mount /parent: writable is yes; no is required",)


def test_an_unsized_folder_is_noticed(backend: Bubblewrap, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(request: dict[str, Any]) -> None:
        at = request["argv"].index("/tmp") - 3
        del request["argv"][at : at + 2]

    assert weakened(backend, monkeypatch, change).problems == ("mount /tmp: size is none; at most 4194304 is required",)


def test_the_governors_own_user_is_noticed(backend: Bubblewrap, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(request: dict[str, Any]) -> None:
        request["uid"] = 65534  # a user, but not the one that was meant for this sandbox

    assert "init: host user is mixed; own is required" in weakened(backend, monkeypatch, change).problems


def test_a_process_outside_its_limits_is_noticed(backend: Bubblewrap, monkeypatch: pytest.MonkeyPatch) -> None:
    from keyturn.core.errors import Unavailable

    def change(request: dict[str, Any]) -> None:
        request["tasks"] = []

    if not backend.layout().v1:  # with one hierarchy it is made in its cgroup, which is the last descriptor
        real = Launcher.launch
        monkeypatch.setattr(
            Launcher, "launch", lambda launcher, request, fds, **more: real(launcher, request, fds[:6], **more)
        )
    with pytest.raises(Unavailable) as caught:
        weakened(backend, monkeypatch, change)
    assert caught.value.message == "the sandbox is outside its cgroup"


def test_a_loosened_limit_is_noticed(inside: Inside) -> None:
    parked = inside.park("pass")
    place = parked._cell.leaf.v1.get("pids", parked._cell.leaf.folder)
    assert place is not None
    (place / "pids.max").write_text("5000")
    assert parked.attest().problems == (f"sandbox: limit pids is 5000; at most {LIMITS.processes_max + 2} is required",)


def test_a_second_process_in_a_parked_sandbox_is_noticed(inside: Inside) -> None:
    import subprocess

    parked = inside.park("pass")
    folder = parked._cell.leaf.folder
    assert folder is not None
    with subprocess.Popen(["/bin/sleep", "60"]) as stranger:
        (folder / "cgroup.procs").write_text(str(stranger.pid))
        assert "stranger: in the parked sandbox is yes; no is required" in parked.attest().problems
        stranger.kill()


def test_a_sandbox_that_is_gone_attests_nothing(inside: Inside) -> None:
    parked = inside.park("pass")
    parked.halt("a test")
    seen = parked.attest()
    assert seen.tier == Tier.T0
    assert seen.problems


def test_the_machine_is_judged_by_doing(backend: Bubblewrap) -> None:
    found = backend.capabilities()
    assert (found.tier, found.weaker, found.missing) == (Tier.T2, (), ())
    assert backend.capabilities() is found


def test_a_machine_without_bubblewrap_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap.shutil, "which", lambda *_, **__: None)
    backend = Bubblewrap(tmp_path / "run", runtime_cache=tmp_path / "runtime.json")
    found = backend.capabilities()
    backend.close()
    assert found.tier == Tier.T0
    assert [(one.why, one.remedy) for one in found.missing] == [
        ("bubblewrap is not installed", "install the package `bubblewrap`")
    ]


def test_a_probe_that_gets_through_takes_the_tier_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from keyturn.sandbox import seccomp

    loose = {**seccomp.table(), "socket": [999, 999]}  # the rule for sockets no longer meets the call
    loose["keyctl"] = [41, 198]
    monkeypatch.setattr(bubblewrap.seccomp, "for_this_machine", lambda: seccomp.program(platform.machine(), loose))
    backend = Bubblewrap(tmp_path / "run", runtime_cache=tmp_path / "runtime.json")
    found = backend.capabilities()
    backend.close()
    assert found.tier == Tier.T0
    assert "network" in [one.why for one in found.missing]


def test_the_runtime_has_one_digest(backend: Bubblewrap) -> None:
    assert backend.runtime("python").digest == backend.runtime("python").digest
    assert backend.runtime("python").digest != backend.runtime("python-numpy").digest
    assert command.ALONE.is_dir()


# --- each field by itself: weaken the launch, or what the kernel would say of it, and exactly its row fails


def failed(seen: Attestation) -> set[tuple[str, str]]:
    return {(row.who, row.field) for row in seen.rows if not row.ok}


def rlimit(number: int) -> Any:
    def change(request: dict[str, Any]) -> None:
        request["rlimits"] = [row for row in request["rlimits"] if row[0] != number]

    return change


def option(target: str, *, drop: int) -> Any:
    """Take the words right before a mount's target, as `--size N`, out of the command line."""

    def change(request: dict[str, Any]) -> None:
        at = request["argv"].index(target) - 1 - drop
        del request["argv"][at : at + drop]

    return change


def in_place_of(old: str, new: str, *, before: str) -> Any:
    def change(request: dict[str, Any]) -> None:
        at = request["argv"].index(before) - 2
        assert request["argv"][at] == old
        request["argv"][at] = new

    return change


def with_capabilities(request: dict[str, Any]) -> None:
    at = request["argv"].index("--cap-drop")
    request["argv"][at] = "--cap-add"


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (rlimit(resource.RLIMIT_MEMLOCK), {"rlimit locked memory"}),
        (rlimit(resource.RLIMIT_FSIZE), {"rlimit file size"}),
        (rlimit(resource.RLIMIT_NOFILE), {"rlimit open files"}),
    ],
)
def test_each_limit_on_a_process_has_its_row(
    backend: Bubblewrap, monkeypatch: pytest.MonkeyPatch, change: Any, fields: set[str]
) -> None:
    seen = weakened(backend, monkeypatch, change)
    assert failed(seen) == {(who, field) for who in ("init", "monitor") for field in fields}


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (with_capabilities, {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}),
        (without("--unshare-net"), {"namespace net"}),
        (without("--unshare-uts", "--hostname", "keyturn"), {"namespace uts"}),
        (without("--seccomp", "4"), {"seccomp mode", "seccomp filters", "strange descriptors"}),  # nobody read it
    ],
)
def test_each_wall_around_init_has_its_row(
    backend: Bubblewrap, monkeypatch: pytest.MonkeyPatch, change: Any, fields: set[str]
) -> None:
    found = failed(weakened(backend, monkeypatch, change))
    mine = {field for who, field in found if who == "init"}
    assert mine == fields if fields != {"namespace net"} else fields <= mine
    assert not {who for who, _ in found} - {"init", "sandbox"}


def test_each_place_has_its_row(backend: Bubblewrap, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)  # bound as it is, not copied
    mounts = (Mount(tmp_path, "/parent"),)
    with monkeypatch.context() as patch:
        seen = weakened(backend, patch, option("/tmp", drop=2))
        assert failed(seen) == {("mount /tmp", "size")}
    with monkeypatch.context() as patch:
        seen = weakened(backend, patch, in_place_of("--ro-bind", "--bind", before="/parent"), mounts=mounts)
        assert failed(seen) == {("mount /parent", "writable")}
    with monkeypatch.context() as patch:
        seen = weakened(backend, patch, in_place_of("--ro-bind", "--dev-bind", before="/parent"), mounts=mounts)
        shows_devices = not os.statvfs(tmp_path).f_flag & os.ST_NODEV  # many systems allow none where the tests write
        wanted = {("mount /parent", "writable")} | ({("mount /parent", "devices")} if shows_devices else set())
        assert failed(seen) == wanted


@pytest.mark.parametrize(
    ("who", "name", "value", "field"),
    [
        ("init", "user", "root", "host user"),
        ("monitor", "user", "governor's", "host user"),
        ("init", "no_new_privs", False, "no_new_privs"),
        ("monitor", "no_new_privs", False, "no_new_privs"),
        ("init", "pid_depth", 1, "process namespaces"),
        ("monitor", "pid_depth", 2, "process namespaces"),
        ("init", "in_cgroup", False, "cgroup"),
        ("monitor", "in_cgroup", False, "cgroup"),
        ("init", "undumpable", False, "undumpable"),
        ("init", "strange_descriptors", 1, "strange descriptors"),
        ("monitor", "strange_descriptors", 1, "strange descriptors"),
        ("init", "program", "sha256:other", "program"),
        ("monitor", "program", "sha256:other", "program"),
        ("sandbox", "network_devices", ["eth0", "lo"], "network devices"),
        ("sandbox", "routes", ["eth0"], "routes"),
        ("sandbox", "devices", [], "devices"),
        ("sandbox", "memory", None, "limit memory"),
        ("sandbox", "pids", 9999, "limit pids"),
        ("sandbox", "swap", 4096, "limit swap"),
    ],
)
def test_each_thing_that_the_kernel_could_say_has_its_row(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, who: str, name: str, value: Any, field: str
) -> None:
    real = attest.facts

    def told(subject: attest.Subject) -> dict[str, Any]:
        seen: dict[str, Any] = real(subject)
        place = seen["limits"] if name in seen["limits"] else seen if who == "sandbox" else seen[who]
        assert name in place
        place[name] = value
        return seen

    parked = inside.park("pass")
    assert failed(parked.attest()) == set()
    monkeypatch.setattr(attest, "facts", told)
    seen = parked.attest()
    also = {("sandbox", "writable bytes in all")} if name == "memory" else set()
    assert failed(seen) == {(who, field)} | also
    assert seen.tier == Tier.T0


def test_a_stranger_is_compared_field_by_field(inside: Inside) -> None:
    import subprocess

    parked = inside.park("pass")
    folder = parked._cell.leaf.folder
    assert folder is not None
    with subprocess.Popen(["/bin/sleep", "60"]) as stranger:
        (folder / "cgroup.procs").write_text(str(stranger.pid))
        found = {field for who, field in failed(parked.attest()) if who == "stranger"}
        stranger.kill()
    outside = {"cgroup"} if parked._cell.leaf.v1 else set()  # it was moved in one hierarchy only
    assert {"host user", "CapEff", "no_new_privs", "seccomp mode", "namespace net"} | outside <= found
