"""The demo without a terminal: it first stops HELD, then says that simulated people decide, and ends checkable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from keyturn import app
from tests.journeys.playing import PROVEN


@pytest.mark.timeout(240)
@pytest.mark.slow
def test_the_demo_holds_first_and_ends_with_commands_that_work(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "keyturn", "demo", "--out", str(out)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=220, check=False)
    said = done.stdout
    assert done.returncode == 0, done.stderr
    assert said.index("HELD") < said.index("loading it now is refused") < said.index("SIMULATED PEOPLE decide")
    assert said.index("SIMULATED PEOPLE decide") < said.index("SIMULATED ada signs")
    assert ("STOPPED" if PROVEN else "UNPROVEN") in said
    assert "decoy" in said
    assert "forged-claim" in said
    state = app.open_project(out / "project").state()
    assert state.lineage is not None
    assert len(state.candidates) >= 5
    assert state.lineage.parent.number >= 2
    assert any(candidate.status == "rejected" for candidate in state.candidates.values())
    assert all(permit.simulated for permit in state.permits.values())
    assert (out / "lineage.svg").read_text(encoding="utf-8").startswith("<svg")
    commands = [line.strip() for line in said.splitlines() if line.strip().startswith(".venv/bin/keyturn ")]
    assert len(commands) == 5
    for each in commands:
        run = [sys.executable, "-m", "keyturn", *each.split()[1:]]
        checked = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
        # Where no halt can be proven it stands: status says so by its code, and nothing loads.
        wanted = (
            {"status": 6, "verify permit": 3}.get(" ".join(each.split()[1:3]).split(" --")[0], 0) if not PROVEN else 0
        )
        assert checked.returncode == wanted, (each, checked.stdout, checked.stderr)
