"""The small distribution for a loading node: built from these sources, installed alone, it verifies a real bundle."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest

from keyturn.flow.permit import SCOPE, pack
from keyturn.verify import trust
from tests.verify import scene as scenes

HOME = Path(__file__).parents[2] / "packaging" / "keyturn-verify"
DEPENDENCIES = ("cryptography", "rfc8785", "cffi", "_cffi_backend", "pycparser", "typing_extensions")
FORBIDDEN = ("sqlite3", "socket", "ssl", "numpy", "asyncio", "http", "keyturn")
FILES_BYTES_MAX = 260_000


def built(folder: Path) -> Path:
    folder.mkdir()
    script = f"import sys; sys.path.insert(0, {str(HOME)!r}); import gather; print(gather.build_wheel({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A fresh environment that has the wheel, the two dependencies, and nothing of the rest."""
    place = tmp_path_factory.mktemp("node")
    wheel = built(place / "wheel")
    venv.create(place / "venv", with_pip=False, symlinks=True)
    deps = place / "deps"
    deps.mkdir()
    for name in DEPENDENCIES:
        found = importlib.util.find_spec(name)
        if found is not None and found.origin is not None:
            source = Path(found.origin)
            source = source.parent if source.name == "__init__.py" else source
            (deps / source.name).symlink_to(source)
    target = next((place / "venv").glob("lib/python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--python", str(place / "venv" / "bin" / "python")]
    quiet = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", *quiet, str(wheel)], check=True, capture_output=True)
    (target / "deps.pth").write_text(f"{deps}\n")
    return place


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """A bundle, a trust file and weights as the flow makes them, an hour of clock ago."""
    monkeypatch.setattr(scenes, "BEGIN", time.time_ns() // 1_000_000 - 120_000)
    made = scenes.released(tmp_path / "log.db")
    (tmp_path / "x.permit").write_bytes(pack(made.honest))
    trust.write(made.trust, tmp_path / "trust.json")
    scenes.put(tmp_path / "weights", scenes.FILES)
    return tmp_path


def run(node, *words):
    """Run in the node's environment, and without any network where this user may take it away."""
    alone = ["unshare", "-n"] if os.geteuid() == 0 and shutil.which("unshare") else []
    return subprocess.run(
        [*alone, *map(str, words)], capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]}
    )


def verify(node, shown):
    words = ("x.permit", "--trust", shown / "trust.json", "--weights", shown / "weights", "--json")
    return run(node, node / "venv/bin/keyturn-verify", shown / words[0], *words[1:])


def test_a_node_without_keyturn_verifies_a_real_bundle_and_its_files(node, shown):
    done = verify(node, shown)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert '"VERIFIED"' in done.stdout
    assert trust.read(shown / "trust.json").seen.size > 0


def test_a_changed_file_is_refused_with_its_check(node, shown):
    (shown / "weights" / "subject.py").write_bytes(b"print('fear')")
    done = verify(node, shown)
    assert done.returncode == 3
    assert "10. the bytes are not the ones that were permitted" in done.stdout


def test_it_loads_nothing_of_the_governor_and_no_network(node):
    script = (
        "import sys, time\nbegin = time.perf_counter()\nimport keyturn_verify.verify.load, keyturn_verify.main\n"
        "print(time.perf_counter() - begin)\nprint(*sorted(sys.modules))\n"
        "import importlib.util\nassert importlib.util.find_spec('keyturn') is None"
    )
    done = run(node, node / "venv/bin/python", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    seconds, names = done.stdout.splitlines()
    loaded = {name.split(".")[0] for name in names.split()}
    assert loaded & set(FORBIDDEN) == set()
    print(f"imported in {float(seconds) * 1000:.0f} ms")  # noqa: T201 - shown by `pytest -rP`, for whoever asks how small it is


def test_the_wheel_is_small_the_same_each_time_and_asks_for_two_packages(node, tmp_path):
    first, again = next((node / "wheel").glob("*.whl")), built(tmp_path / "again")
    assert hashlib.sha256(first.read_bytes()).digest() == hashlib.sha256(again.read_bytes()).digest()
    with zipfile.ZipFile(first) as opened:
        names = [each for each in opened.namelist() if each.endswith(".py")]
        metadata = next(opened.read(each).decode() for each in opened.namelist() if each.endswith("/METADATA"))
        sizes = sum(each.file_size for each in opened.infolist() if each.filename.endswith(".py"))
    assert {name.split("/")[0] for name in names} == {"keyturn_verify"}
    assert {name.split("/")[1] for name in names if name.count("/") > 1} == {"core", "wire", "ledger", "verify"}
    assert {"store.py", "evolve.py", "decision.py", "state.py"} & {name.split("/")[-1] for name in names} == set()
    print(f"{len(names)} files, {sizes} bytes of Python, a wheel of {first.stat().st_size} bytes")  # noqa: T201 - shown by `pytest -rP`, for whoever asks how small it is
    assert sizes <= FILES_BYTES_MAX
    asked = [line for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    assert [line.split()[1].split(">")[0] for line in asked] == ["cryptography", "rfc8785"]


def test_its_scope_is_the_one_that_permits_name():
    assert f'SCOPE = "{SCOPE}"' in (HOME / "main.py").read_text("utf-8")
