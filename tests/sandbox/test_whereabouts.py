"""A stop that is asked for from another session than the governor's: it must find what lives in that one's cgroup."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keyturn.core.errors import Unavailable
from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.cgroups import populated, processes, remove
from keyturn.sandbox.port import Limits, Spec
from keyturn.sandbox.traces import whereabouts
from keyturn.sandbox.traces.whereabouts import BOOT_ID, FILE, NOWHERE, Whereabouts

GOVERNOR = Path(__file__).parent / "governor.py"
NAME = "keyturn-0123456789ab"


def said(run_root: Path, *places: str, boot: str | None = None) -> None:
    text = json.dumps({"boot": boot or BOOT_ID.read_text().strip(), "places": places})
    (run_root / FILE).write_text(text)


def test_nothing_is_known_where_nobody_was(tmp_path: Path) -> None:
    assert whereabouts.read(tmp_path, NAME) == Whereabouts()


def test_what_an_earlier_boot_wrote_counts_for_nothing(tmp_path: Path) -> None:
    said(tmp_path, NOWHERE, boot="an earlier one")
    assert whereabouts.read(tmp_path, NAME) == Whereabouts()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"boot": 1}', '{"places": []}', "[" * 100_000])
def test_what_cannot_be_read_is_somebody_whom_no_cgroup_shows(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert whereabouts.read(tmp_path, NAME).places == (NOWHERE,)


def test_a_cgroup_without_our_name_is_never_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edited file must not turn a halt into a weapon against the rest of the machine."""
    monkeypatch.setattr(whereabouts, "mounted", lambda: (tmp_path,))
    other, ours = tmp_path / "system.slice", tmp_path / NAME
    for place in (other, ours):
        place.mkdir()
        (place / "cgroup.kill").touch()
    said(tmp_path, str(other), str(ours), str(tmp_path / NAME / ".." / "system.slice"), str(tmp_path / "gone" / NAME))
    assert whereabouts.read(tmp_path, NAME).places == (str(ours),)
    assert whereabouts.read(tmp_path, NAME).others(ours) == ()


def test_a_link_with_our_name_does_not_lead_to_somebody_elses_cgroup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a folder with our name that is no cgroup, or a place that may not be looked into."""
    top, elsewhere = tmp_path / "cgroup", tmp_path / "elsewhere"
    monkeypatch.setattr(whereabouts, "mounted", lambda: (top,))
    for place in (top / "system.slice", elsewhere / NAME):
        place.mkdir(parents=True)
        (place / "cgroup.kill").touch()
    (top / NAME).symlink_to(top / "system.slice")
    said(tmp_path, str(top / NAME), str(elsewhere / NAME), f"{top}/{'x' * 300}/{NAME}", f"{top}/\0/{NAME}")
    assert whereabouts.read(tmp_path, NAME).places == ()


def test_it_is_written_once(tmp_path: Path) -> None:
    whereabouts.remember(tmp_path, NAME, None)
    before = (tmp_path / FILE).stat().st_ino
    whereabouts.remember(tmp_path, NAME, None)
    assert whereabouts.read(tmp_path, NAME).places == (NOWHERE,)
    assert (tmp_path / FILE).stat().st_ino == before


def test_nothing_is_launched_that_could_not_be_found_again(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        whereabouts.remember(tmp_path / "absent", NAME, None)
    assert caught.value.message.startswith("where sandboxes live could not be written down")


@pytest.fixture
def session() -> Iterator[Path]:
    """A cgroup that was delegated, as systemd marks it; the governor of the test is put into it."""
    base = next(
        place for place in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")) if (place / "cgroup.procs").exists()
    )
    place = base / f"session-of-a-test-{os.getpid()}"
    place.mkdir()
    os.setxattr(place, "trusted.delegate", b"1")
    yield place
    (place / "cgroup.kill").write_text("1")
    remove(place)


@pytest.mark.root
def test_a_stop_from_another_session_finds_what_a_hung_governor_left(
    tmp_path: Path, session: Path, eventually: Callable[..., bool]
) -> None:
    """Its lease is long and it holds still, so that nothing but this stop could have killed what it started."""
    run_root = tmp_path / "run"
    run_root.mkdir()
    words = [sys.executable, str(GOVERNOR), str(run_root), "60", "wait"]
    governor = subprocess.Popen(
        ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(session), *words],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip  # what and how
    try:
        assert governor.stdout is not None
        assert [governor.stdout.readline().strip() for _ in range(2)] == ["LAUNCHING", "READY"]
        os.kill(governor.pid, signal.SIGSTOP)
        backend = Bubblewrap(run_root, runtime_cache=tmp_path / "runtime.json")
        root = session / backend.name
        alive = processes(root)
        assert len(alive) >= 8
        receipt = backend.sweep()
        assert (receipt.state, receipt.survivors, receipt.unknown) == ("STOPPED", 0, ())
        assert receipt.processes_before >= len(alive)
        assert not root.exists() or not populated(root)
        assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in alive), 5)
        backend.close()
    finally:
        governor.kill()
        governor.communicate()


@pytest.mark.root
def test_a_stop_that_may_not_kill_there_is_unproven(
    tmp_path: Path, session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_root = tmp_path / "run"
    run_root.mkdir()
    backend = Bubblewrap(run_root, runtime_cache=tmp_path / "runtime.json")
    place = session / backend.name
    place.mkdir()
    said(run_root, str(place))
    with subprocess.Popen(["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec sleep 60', str(place)]) as left:
        try:
            monkeypatch.setattr(whereabouts, "kill", lambda places: False)
            monkeypatch.setattr("keyturn.sandbox.proof.PROOF_SECONDS_MAX", 0.5)
            while not processes(place):
                pass
            receipt = backend.sweep()
            assert receipt.state == "UNPROVEN"
            assert receipt.survivors == 1
            assert receipt.kill_written_ms is None
        finally:
            left.kill()
    backend.close()


@pytest.mark.root
def test_a_backend_writes_down_where_it_launches(tmp_path: Path) -> None:
    run_root = tmp_path / "run"
    backend = Bubblewrap(run_root, runtime_cache=tmp_path / "runtime.json")
    spec = Spec("improve", ("python", "-c", ""), backend.runtime("python"), limits=Limits())
    backend.prepare(spec).close()
    assert whereabouts.read(run_root, backend.name).places == (str(backend.layout().root),)
    backend.close()
