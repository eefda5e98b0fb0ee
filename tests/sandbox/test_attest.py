"""What is attested is what the kernel enforces, and two runs of one configuration give equal facts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keyturn.core.terms import Tier
from keyturn.sandbox import bubblewrap, command
from keyturn.sandbox.bubblewrap import Bubblewrap
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
    assert seen.facts["limits"] == {"memory": LIMITS.memory_bytes, "pids": LIMITS.processes_max + 2}
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
        (("--unshare-net",), "the net namespace is the governor's"),
        (("--unshare-ipc",), "the ipc namespace is the governor's"),
        (("--unshare-uts", "--hostname", "keyturn"), "the uts namespace is the governor's"),
        (("--unshare-cgroup",), "the cgroup namespace is the governor's"),
        (("--seccomp", "4"), "no system call filter is on init"),
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

    assert weakened(backend, monkeypatch, change).problems == ("`/` is writable",)


def test_a_writable_mount_is_noticed(backend: Bubblewrap, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def change(request: dict[str, Any]) -> None:
        at = request["argv"].index("/parent")
        request["argv"][at - 2] = "--bind"

    seen = weakened(backend, monkeypatch, change, mounts=(Mount(tmp_path, "/parent"),))
    assert seen.problems == ("`/parent` is writable",)


def test_an_unsized_folder_is_noticed(backend: Bubblewrap, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(request: dict[str, Any]) -> None:
        at = request["argv"].index("/tmp") - 3
        del request["argv"][at : at + 2]

    assert weakened(backend, monkeypatch, change).problems == ("`/tmp` has no size",)


def test_the_governors_own_user_is_noticed(backend: Bubblewrap, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(request: dict[str, Any]) -> None:
        request["uid"] = 65534  # a user, but not the one that was meant for this sandbox

    assert "init runs as mixed user" in weakened(backend, monkeypatch, change).problems


def test_a_process_outside_its_limits_is_noticed(backend: Bubblewrap, monkeypatch: pytest.MonkeyPatch) -> None:
    from keyturn.core.errors import Unavailable

    def change(request: dict[str, Any]) -> None:
        request["tasks"] = []

    with pytest.raises(Unavailable) as caught:
        weakened(backend, monkeypatch, change)
    assert caught.value.message == "the sandbox is outside its cgroup"


def test_a_loosened_limit_is_noticed(inside: Inside) -> None:
    parked = inside.park("pass")
    place = parked._cell.leaf.v1.get("pids", parked._cell.leaf.folder)
    assert place is not None
    (place / "pids.max").write_text("5000")
    assert parked.attest().problems == (f"the limit on pids is 5000, {LIMITS.processes_max + 2} is required",)


def test_a_second_process_in_a_parked_sandbox_is_noticed(inside: Inside) -> None:
    import subprocess

    parked = inside.park("pass")
    folder = parked._cell.leaf.folder
    assert folder is not None
    with subprocess.Popen(["/bin/sleep", "60"]) as stranger:
        (folder / "cgroup.procs").write_text(str(stranger.pid))
        assert "3 processes are in the parked sandbox, 2 were started" in parked.attest().problems
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
    monkeypatch.setattr(bubblewrap.seccomp, "for_this_machine", lambda: seccomp.program("x86_64", loose))
    backend = Bubblewrap(tmp_path / "run", runtime_cache=tmp_path / "runtime.json")
    found = backend.capabilities()
    backend.close()
    assert found.tier == Tier.T0
    assert "network" in [one.why for one in found.missing]


def test_the_runtime_has_one_digest(backend: Bubblewrap) -> None:
    assert backend.runtime("python").digest == backend.runtime("python").digest
    assert backend.runtime("python").digest != backend.runtime("python-numpy").digest
    assert command.ALONE.is_dir()
