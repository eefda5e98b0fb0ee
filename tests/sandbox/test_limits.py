"""Every limit is the kernel's, and holds whether the governor looks, hangs or renews for ever."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Tier
from keyturn.sandbox.bubblewrap import Bubblewrap
from tests.sandbox.conftest import LIMITS, Inside, specification

pytestmark = pytest.mark.root

BURN = """
import os
for _ in range({}):
    if not os.fork():
        break
while True:
    pass
"""
DEVICE = "/dev/keyturn-test-device"


def test_all_processes_together_get_their_share_of_the_processors(inside: Inside) -> None:
    end = inside.run(BURN.format(2), limits=replace(LIMITS, wall_seconds=1.5, cpus=0.25))
    assert end.reason == "wall"
    assert end.cpu_seconds <= 0.25 * (end.wall_seconds + 0.5) + 0.2


def test_processor_time_is_counted_over_all_processes(inside: Inside) -> None:
    end = inside.run(BURN.format(3), limits=replace(LIMITS, cpu_seconds_max=1.0))
    assert end.reason == "cpu"
    assert end.cpu_seconds > 1.0
    assert not end.clean


def test_processor_time_is_bounded_where_the_governor_never_looks(
    inside: Inside, eventually: Callable[..., bool]
) -> None:
    """No renewal, no look: the process ends by the kernel's own limit, long before lease or wall."""
    running = inside.start(
        BURN.format(0), limits=replace(LIMITS, cpu_seconds_max=1.0, wall_seconds=100), lease_seconds=90
    )
    cell = running._cell
    assert eventually(lambda: bool(cell.subjects()))
    assert eventually(lambda: not cell.subjects(), 60.0)
    end = running.wait()
    assert (end.reason, end.code) == ("cpu", None)


def test_the_wall_stands_while_a_governor_only_renews(inside: Inside, eventually: Callable[..., bool]) -> None:
    running = inside.start("import time; time.sleep(60)", limits=replace(LIMITS, wall_seconds=0.3))
    cell = running._cell

    def renewed_to_death() -> bool:
        cell.renew()
        cell.hear()
        return cell.silent

    assert eventually(renewed_to_death, 20.0)
    assert cell.last_words == "wall"


def test_the_wall_stands_where_the_governor_never_looks(inside: Inside, eventually: Callable[..., bool]) -> None:
    running = inside.start("import time; time.sleep(60)", limits=replace(LIMITS, wall_seconds=0.3), lease_seconds=60)
    assert eventually(running._cell.empty, 20.0)
    assert running.wait().reason == "wall"


def test_a_throttled_storm_dies_at_once(inside: Inside) -> None:
    running = inside.start(BURN.format(8), limits=replace(LIMITS, cpus=0.1))
    time.sleep(0.3)
    receipt = running.halt("a test")
    assert receipt.state == "STOPPED"


def test_the_share_is_attested(inside: Inside) -> None:
    parked = inside.park("pass", limits=replace(LIMITS, cpus=0.5))
    assert parked.attest().problems == ()
    place = parked._cell.leaf.v1.get("cpu")
    if place is None:
        folder = parked._cell.leaf.folder
        assert folder is not None
        (folder / "cpu.max").write_text("max")
    else:
        (place / "cpu.cfs_quota_us").write_text("-1")
    assert parked.attest().problems == ("sandbox: limit cpu_thousandths is none; at most 500 is required",)


# --- devices


@pytest.fixture
def device() -> Iterator[str]:
    """A harmless stand-in: /dev/null under another name."""
    os.mknod(DEVICE, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    Path(DEVICE).chmod(0o666)
    yield DEVICE
    Path(DEVICE).unlink()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Bubblewrap]:
    """A backend of its own: a device is remembered until the machine starts anew."""
    made = Bubblewrap(tmp_path / "run", runtime_cache=tmp_path / "runtime.json")
    yield made
    made.close()


def test_a_device_is_seen_by_whom_it_is_shown_and_lowers_the_tier(other: Bubblewrap, device: str) -> None:
    code = f"print(open('{device}', 'rb').read())"
    parked = other.prepare(specification(other, code, devices=(device,)))
    seen = parked.attest()
    assert (seen.tier, seen.problems) == (Tier.T1, ())
    assert seen.weaker == ("devices: the halt of a device is not proven",)
    assert f"{device} 1:3" in str(seen.facts["devices"])
    running = parked.go()
    end = running.wait()
    assert (end.code, end.diagnostics) == (0, b"b''\n")
    running.close()


def test_no_halt_of_a_device_is_called_proven(other: Bubblewrap, device: str, tmp_path: Path) -> None:
    running = other.prepare(specification(other, "import time; time.sleep(60)", devices=(device,))).go()
    unknown = (f"devices: nothing shows that {device} stopped, until this machine starts anew",)
    receipt = running.halt("a test")
    assert (receipt.state, receipt.survivors, receipt.unknown) == ("UNPROVEN", 0, unknown)
    running.close()
    assert (other.halt_all("again").state, other.halt_all("again").unknown) == ("UNPROVEN", unknown)
    later = Bubblewrap(tmp_path / "run", runtime_cache=tmp_path / "runtime.json")
    assert later.sweep().unknown == unknown, "a governor that starts later does not know more"
    later.close()


def test_a_device_that_nobody_asked_for_is_noticed(
    other: Bubblewrap, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keyturn.sandbox import bubblewrap

    real = bubblewrap.launch_request

    def tampered(*arguments: object, **words: object) -> object:
        request = real(*arguments, **words)  # type: ignore[arg-type]  # handed on as it came
        argv = request["argv"]
        assert isinstance(argv, list)
        at = argv.index("/dev/shm") - 3
        argv[at:at] = ["--dev-bind", device, device]
        return request

    monkeypatch.setattr(bubblewrap, "launch_request", tampered)
    parked = other.prepare(specification(other, "pass"))
    problems = parked.attest().problems
    parked.close()
    assert any(problem.startswith("sandbox: devices is") and device in problem for problem in problems)
    assert f"mount {device}: devices is yes; no is required" in problems


@pytest.mark.parametrize("name", ["/dev/null", "/dev/../etc/passwd", "/etc/passwd", "/dev/shm/x", "/dev/none-such"])
def test_what_is_no_device_is_not_shown_as_one(backend: Bubblewrap, name: str) -> None:
    with pytest.raises(MalformedInput):
        backend.prepare(specification(backend, "pass", devices=(name,)))
