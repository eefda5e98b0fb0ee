"""Inspect judges our provider by its own suite; the evaluations and attacks beside it are ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

pytestmark = [pytest.mark.judges, pytest.mark.root, pytest.mark.timeout(900)]

INSPECT = Path(sys.prefix) / "inspect"
ROOT = Path(__file__).resolve().parents[2]
KNOWN = {"test_exec_as_user"}
SUITE = 43
"""How many tests of their suite must pass; there are more in a later one, and then this is looked at again."""


def test_inspects_own_suite_for_providers_passes_but_for_what_is_known(tmp_path: Path) -> None:
    if not (INSPECT / "inspect_ai").is_dir():
        pytest.fail("Inspect is not installed; run `tools/setup judges`, or `make judges`", pytrace=False)
    if os.geteuid() != 0:
        pytest.skip("not run: subjects get a user of their own, which needs root")
    report = tmp_path / "report.xml"
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", "--timeout=120"]
    command += ["-o", "filterwarnings=ignore"]  # Inspect's own parts leave streams open and ask for what is old
    places = os.pathsep.join(map(str, (INSPECT, ROOT / "src", ROOT)))
    done = subprocess.run(
        [sys.executable, *command, "tests/judges/inspect_provider.py"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": places}, capture_output=True, text=True, check=False,
    )  # fmt: skip  # where and how in one row
    assert done.returncode == 0, done.stdout[-20000:]
    cases = ET.parse(report).getroot().iter("testcase")
    missed = {str(case.get("name")).split("[")[0] for case in cases if case.find("skipped") is not None}
    assert missed == KNOWN
    names = subprocess.run(
        [sys.executable, "-c", "from inspect_ai.util._sandbox import self_check as s; print(len(s.__all__))"],
        env={**os.environ, "PYTHONPATH": places}, capture_output=True, text=True, check=True,
    )  # fmt: skip  # where and how in one row
    assert int(names.stdout) == SUITE + len(KNOWN)


def test_inspect_finds_the_provider_by_its_entry_point() -> None:
    from importlib.metadata import entry_points

    assert [point.value for point in entry_points(group="inspect_ai", name="keyturn")] == [
        "keyturn.adapters.inspect.registry"
    ]
