"""Where the governor is not root, or cgroups lie otherwise: it works with less, and says exactly what is less."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.sandbox.bubblewrap import Bubblewrap

pytestmark = pytest.mark.root
REPO = Path(__file__).resolve().parents[2]
NOBODY = 61234

STORY = """
import json, os, sys, time
from pathlib import Path
from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.port import Decoy, Limits, Spec
place = Path(sys.argv[1])
if len(sys.argv) > 2:
    (Path(sys.argv[2]) / "cgroup.procs").write_text(str(os.getpid()))
if len(sys.argv) > 3:
    os.setgroups([]); os.setresgid(*[int(sys.argv[3])] * 3); os.setresuid(*[int(sys.argv[3])] * 3)
backend = Bubblewrap(place / "run", runtime_cache=place / "runtime.json")
found = backend.capabilities()
limits = Limits(processes_max=16, memory_bytes=256 << 20, wall_seconds=10)
def spec(code, **more):
    runtime = backend.runtime("python")
    argv = ("python", "-I", "-S", "-c", code)
    return Spec("improve", argv, runtime, limits=limits, out=True, **more)
daemons = "import os, time\\nfor n in range(3):\\n    if os.fork() == 0: os.setsid(); time.sleep(60)\\n"
files = "open('/out/a', 'w').write('x')\\nopen('/k', 'w').close()\\n"
parked = backend.prepare(spec(daemons + files, decoys=(Decoy("k", "/k"),)))
attestation = parked.attest()
running = parked.go()
end = running.wait()
collected = running.collect((("a", 10),))
running.close()
running = backend.prepare(spec(daemons + "time.sleep(60)")).go()
until = time.monotonic() + 5
while len(running._cell.processes()) < 5 and time.monotonic() < until: running.tick()
held = backend.freeze(60)
if held.state == "HELD":
    backend.thaw()
receipt = running.halt("a test")
survivors = running._cell.processes()
running.close()
running = backend.prepare(spec("import os, time\\nwhile True:\\n    if os.fork() == 0: time.sleep(60)")).go()
bomb = running.wait()
running.close()
swept = backend.sweep()
backend.close()
sys.stdout.write(json.dumps({
    "tier": found.tier, "weaker": found.weaker, "missing": [one.what for one in found.missing],
    "attested": attestation.tier, "problems": attestation.problems, "user": attestation.facts["init"]["user"],
    "reason": end.reason, "code": end.code, "left": end.left_running, "decoys": sorted({d.how for d in end.decoys}),
    "files": {n: d.decode() for n, d in collected.files.items()}, "findings": [f.message for f in collected.findings],
    "state": receipt.state, "unknown": receipt.unknown, "survivors": survivors, "swept": swept.state,
    "held": [held.state, *held.unknown],
    "bomb": [bomb.reason, bomb.code, bomb.left_running < 16],
    "left_over": [name for name in os.listdir(place / "run") if name != "cgroups.json"],
}))
"""


def python() -> str:
    """An interpreter that an ordinary user may run."""
    found = shutil.which("python3", path="/usr/bin")
    if found is None:
        pytest.fail("not run: an ordinary user needs an interpreter in /usr/bin")
    return found


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that the ordinary user owns, with a copy of our source that it may read."""
    import tempfile

    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        shutil.copytree(
            REPO / "src" / "keyturn", Path(folder) / "src" / "keyturn", ignore=shutil.ignore_patterns("*.pyc")
        )
        Path(folder).chmod(0o755)
        (Path(folder) / "own").mkdir()
        os.chown(Path(folder) / "own", NOBODY, NOBODY)
        yield Path(folder)


def story(place: Path, *arguments: str, before: list[str] | None = None, text: str = STORY) -> dict[str, object]:
    command = [*(before or []), python(), "-c", text, str(place / "own"), *arguments]
    environment = {"PYTHONPATH": str(place / "src"), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=place)
    assert ran.returncode == 0, ran.stderr
    told: dict[str, object] = json.loads(ran.stdout)
    return told


def test_an_ordinary_user_without_a_cgroup_kills_through_init_and_says_so(place: Path) -> None:
    told = story(place, before=["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"])
    assert told["tier"] == told["attested"] == "T1"
    assert told["problems"] == []
    assert told["weaker"] == [
        "cgroup: no cgroup of this user's own was delegated",
        "user: the subject runs as the governor's own host user",
        "descriptors: an ordinary user may not list those of init",
    ]
    assert told["missing"] == [
        "a cgroup of our own",
        "a host user of the subject's own",
        "a look at the descriptors that init holds",
    ]
    assert (told["reason"], told["code"], told["left"]) == ("exited", 0, 3)
    assert told["decoys"] == ["opened", "written"]
    assert (told["files"], told["findings"]) == ({"a": "x"}, [])
    assert told["state"] == "UNPROVEN"
    assert told["unknown"] == ["cgroup: there is none of ours, so only init and what it holds were seen to end"]
    assert told["survivors"] == []
    assert told["held"] == ["NOT HELD", "there is no cgroup of ours, so nothing can be held still"]
    assert told["bomb"] == ["exited", 1, True]
    assert told["left_over"] == []


@pytest.fixture
def delegated(backend: Bubblewrap) -> Iterator[Path]:
    """A cgroup that was delegated to the ordinary user, as systemd does it."""
    root = backend.layout().root
    assert root is not None
    place = root.parent / f"keyturn-delegated-{os.getpid()}"
    place.mkdir()
    for path in (place, place / "cgroup.procs", place / "cgroup.subtree_control", place / "cgroup.threads"):
        os.chown(path, NOBODY, NOBODY)
    yield place
    for child in sorted((c for c in place.rglob("*") if c.is_dir()), reverse=True):
        child.rmdir()
    place.rmdir()


def test_an_ordinary_user_with_a_delegated_cgroup_proves_its_halts(place: Path, delegated: Path) -> None:
    told = story(place, str(delegated), str(NOBODY))
    assert told["tier"] == "T1"
    assert told["problems"] == []
    delegable = (delegated.parent / "cgroup.controllers").read_text().split()  # the others lie in older hierarchies
    assert told["weaker"] == [
        *(f"{name}: no cgroup limits `{name}`" for name in ("memory", "pids") if name not in delegable),
        "user: the subject runs as the governor's own host user",
        "descriptors: an ordinary user may not list those of init",
    ]
    assert (told["reason"], told["code"], told["left"], told["decoys"]) == ("exited", 0, 3, ["opened", "written"])
    assert (told["files"], told["findings"]) == ({"a": "x"}, [])
    assert (told["state"], told["unknown"], told["survivors"], told["swept"]) == ("STOPPED", [], [], "STOPPED")
    assert told["held"] == ["HELD"]
    assert told["bomb"] == ["exited", 1, True]
    assert told["left_over"] == []


def test_root_on_a_machine_with_one_hierarchy_only(place: Path) -> None:
    told = story(
        place,
        before=[
            *["unshare", "--mount", "sh", "-c"],
            'umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"',
            "sh",
        ],
    )
    assert told["problems"] == []
    assert told["user"] == "own"
    assert told["state"] == "STOPPED"
    assert (told["reason"], told["code"], told["left"], told["survivors"]) == ("exited", 0, 3, [])
    if told["weaker"]:  # the controllers are held by the other hierarchies of this machine
        assert told["weaker"] == ["memory: no cgroup limits `memory`", "pids: no cgroup limits `pids`"]
        assert told["tier"] == "T1"
    else:
        assert told["tier"] == "T2"


CHECK = """
import json, os, sys
from pathlib import Path
from keyturn.sandbox import suite
from keyturn.sandbox.bubblewrap import Bubblewrap
place = Path(sys.argv[1])
backend = Bubblewrap(place / "run", runtime_cache=place / "runtime.json")
found = suite.check(backend, place, tell=lambda done, total, probe: None)
backend.close()
scored = [row for row in found.rows if row.kind != "information"]
sys.stdout.write(json.dumps({
    "tier": found.tier, "scored": found.scored, "weaker": [text.split(":")[0] for text in found.weaker],
    "open": {row.probe: row.detail for row in scored if row.inside != "held"},
    "without": {row.probe: row.control_detail for row in scored if row.control != "succeeds"},
    "left_over": sorted(os.listdir(place)),
}))
"""

NOT_FOR_HIM = {"own-executables", "open-by-handle", "devices", "mounts", "cgroups", "kernel-settings"}
"""What an ordinary user may do in no place at all, so that its control fails."""

BUSY = "got through: more processors; else "


@pytest.mark.slow
def test_an_ordinary_users_sandbox_earns_t1_and_the_suite_says_why(place: Path) -> None:
    told = story(place, before=["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"], text=CHECK)
    assert (told["tier"], told["scored"]) == ("T1", 32)
    assert told["weaker"] == ["cgroup", "user", "descriptors"]
    gotten = told["open"]
    assert isinstance(gotten, dict)
    assert gotten.pop("memory") == "got through: several processes; else no memory: one process"
    # Without a cgroup nothing holds a share of the processors, so this one depends on how many are idle, bare too.
    assert gotten.pop("raise-priority", BUSY).startswith(BUSY)
    assert gotten == {}
    without = told["without"]
    assert isinstance(without, dict)
    # Some kernels show their messages to everybody.
    assert set(without) - {"kernel-secrets", "raise-priority"} == NOT_FOR_HIM
    assert [text for text in without.values() if "ordinary user" not in text] == []
    assert told["left_over"] == ["run", "runtime.json"]
