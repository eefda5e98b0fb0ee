"""The judges: programs that others wrote, kept beside the packages of the tests. Where one is missing, that fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ledger.exports import RECORDED, unpacked

JUDGES = Path(sys.prefix) / "judges"
GO = JUDGES / "go"
MODULE = "golang.org/x/mod"
PACKAGES = ("sumdb/note", "sumdb/tlog")


@pytest.fixture(scope="session", autouse=True)
def judges() -> Iterator[Path]:
    """The folder that `tools/setup judges` filled, behind all other places from which Python imports."""
    if not (JUDGES / "go" / "VERSION").is_file():
        pytest.fail("the judges are not installed; run `tools/setup judges`, or `make judges`", pytrace=False)
    sys.path.append(str(JUDGES))
    yield JUDGES
    sys.path.remove(str(JUDGES))


Judge = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def go(judges: Path, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Ask Go's own packages: `go(verb, **request)`; built without a network from what lies in the toolchain."""
    place = tmp_path_factory.mktemp("go")
    shutil.copy(Path(__file__).with_name("judge.go"), place)
    for package in PACKAGES:  # the toolchain carries them for its own use, where no program of others may import them
        shutil.copytree(GO / "src" / "cmd" / "vendor" / MODULE / package, place / "vendor" / MODULE / package)
    (place / "go.mod").write_text(f"module judge\ngo 1.27\nrequire {MODULE} v0.0.0\n")
    listed = "".join(f"{MODULE}/{package}\n" for package in PACKAGES)
    (place / "vendor" / "modules.txt").write_text(f"# {MODULE} v0.0.0\n## explicit; go 1.25\n{listed}")
    command = [str(GO / "bin" / "go"), "build", "-o", "judge", "."]
    built = subprocess.run(command, cwd=place, env=offline(place), capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr

    def ask(verb: str, **request: Any) -> dict[str, Any]:
        done = subprocess.run(
            [str(place / "judge"), verb], input=json.dumps(request), capture_output=True, text=True, check=True
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return ask


def offline(place: Path) -> dict[str, str]:
    """The environment of a build that can reach nothing but the toolchain and this folder."""
    closed = {
        "GOPROXY": "off",
        "GOFLAGS": "-mod=vendor",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
        "GOTELEMETRY": "off",
    }
    folders = {"GOROOT": str(GO), "GOCACHE": str(place / "cache"), "GOPATH": str(place / "path"), "HOME": str(place)}
    return {"PATH": os.environ["PATH"], **closed, **folders}


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real governor's log as static files: the recorded lineage, unpacked."""
    folder = tmp_path_factory.mktemp("recorded")
    for name, data in unpacked(RECORDED.read_bytes()).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
