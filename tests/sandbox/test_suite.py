"""The containment suite on the real sandbox, on one that contains nothing, and what it leaves behind: nothing."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.core.terms import Tier
from keyturn.sandbox import suite
from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.cgroups import processes
from keyturn.sandbox.port import Mount
from keyturn.sandbox.suite.canaries import Canaries
from keyturn.sandbox.suite.places import Bare, Sealed
from keyturn.sandbox.suite.run import controlled, tried
from keyturn.sandbox.suite.table import PROBES, Probe
from tests.sandbox.bare import BareBackend
from tests.sandbox.conftest import Inside

pytestmark = pytest.mark.root
NAMED = [pytest.param(probe, id=probe.id) for probe in PROBES]
SCORED = [pytest.param(probe, id=probe.id) for probe in PROBES if probe.kind != "information"]


def quiet(done: int, total: int, probe: str) -> None:
    """Nobody listens."""


@pytest.fixture
def canaries(tmp_path: Path) -> Iterator[Canaries]:
    with Canaries(tmp_path / "canaries") as made:
        yield made


@pytest.mark.parametrize("probe", NAMED)
def test_the_same_probe_succeeds_outside(tmp_path: Path, probe: Probe) -> None:
    with Canaries(tmp_path / "outside") as outside:
        assert controlled(probe, Bare(outside))[0] == "succeeds"


@pytest.mark.parametrize("probe", SCORED)
def test_the_sandbox_holds_every_probe(backend: Bubblewrap, canaries: Canaries, probe: Probe) -> None:
    assert tried(probe, Sealed(backend, canaries))[0] == "held"


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What is still there of the checks that a test ran: processes, files in shared places, variables."""
    nonces: list[str] = []
    enter = Canaries.__enter__

    def noted(self: Canaries) -> Canaries:
        nonces.append(self.nonce)
        return enter(self)

    monkeypatch.setattr(Canaries, "__enter__", noted)

    def look() -> list[str]:
        assert len(nonces) == 2
        found = [str(path) for place in ("/tmp", "/dev/shm") for n in nonces for path in Path(place).glob(f"*{n}*")]
        found += [name for name, value in os.environ.items() if value in nonces]
        for place in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if place.name.isdigit() and any(n.encode() in (place / "cmdline").read_bytes() for n in nonces):
                    found.append(place.name)
        return found

    return look


@pytest.mark.slow
def test_a_whole_check_of_the_real_sandbox_earns_t2(tmp_path: Path, left: Callable[[], list[str]]) -> None:
    backend = Bubblewrap(tmp_path / "run", runtime_cache=tmp_path / "runtime.json")
    heard: list[tuple[int, int, str]] = []
    try:
        found = suite.check(backend, tmp_path, tell=lambda *words: heard.append(words))
        layout = backend.layout()
        assert layout.root is not None
        assert processes(layout.root) == []
    finally:
        backend.close()
    assert [row.probe for row in found.rows if row.inside != "held" and row.kind != "information"] == []
    assert [row.probe for row in found.rows if row.control != "succeeds"] == []
    assert (found.tier, found.held, found.scored, found.controlled) == (Tier.T2, 32, 32, 32)
    assert found.suite == suite.digest()
    assert [row.number for row in found.rows] == list(range(1, len(PROBES) + 1))
    assert heard == [*((n, len(PROBES), probe.id) for n, probe in enumerate(PROBES)), (len(PROBES), len(PROBES), "")]
    assert left() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "runtime.json"]


@pytest.mark.slow
def test_a_backend_that_contains_nothing_earns_nothing_whatever_it_attests(
    tmp_path: Path, left: Callable[[], list[str]]
) -> None:
    found = suite.check(BareBackend(tmp_path / "bare"), tmp_path, tell=quiet)
    assert [(row.probe, row.detail) for row in found.rows if row.inside != "breach"] == []
    assert (found.tier, found.held) == (Tier.T0, 0)
    assert left() == []


def test_a_check_that_is_broken_off_leaves_nothing(tmp_path: Path, left: Callable[[], list[str]]) -> None:
    def enough(done: int, total: int, probe: str) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        suite.check(BareBackend(tmp_path / "bare"), tmp_path, tell=enough)
    assert left() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare"]


def test_a_socket_in_a_mounted_folder_is_never_shown(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        where = os.open(tmp_path / "deeper", os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{where}/talk")
        os.close(where)
        with pytest.raises(MalformedInput) as caught:
            inside.park("", mounts=(Mount(tmp_path, "/parent"),))
    assert caught.value.message == "`/parent` would show a socket, `talk`"


@pytest.mark.parametrize("link", [False, True])
def test_a_pipe_is_never_mounted(inside: Inside, tmp_path: Path, *, link: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with pytest.raises(MalformedInput) as caught:
        inside.park("", mounts=(Mount(tmp_path / ("link" if link else "pipe"), "/parent"),))
    assert caught.value.message == "`/parent` would show a named pipe, `pipe`"


def test_where_no_sandbox_can_be_built_there_is_no_check(
    tmp_path: Path, left: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Bubblewrap(tmp_path / "run", runtime_cache=tmp_path / "runtime.json")
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(Unavailable):
        suite.check(backend, tmp_path, tell=quiet)
    backend.close()
    assert left() == []
