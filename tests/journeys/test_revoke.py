"""A revoked permit loads nothing, and the loop, whose parent it was, does not go on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from keyturn import app
from keyturn.core.errors import UntrustedInput
from tests.journeys.playing import play


def keyturn(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "keyturn", *words], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_revoked_permit_loads_nothing_any_more(founder: Path, tmp_path: Path) -> None:
    made = play(tmp_path, founder)
    step = made.project.run()
    made.sign(step)
    made.project.run()
    state = made.project.state()
    assert state.lineage is not None
    permit = state.lineage.founder.permit
    trust, bundle = tmp_path / "trust.json", tmp_path / "founder.permit"
    made.project.write_trust(trust)
    made.project.bundle(permit, bundle)
    weights = made.project.home / "artifacts" / state.lineage.founder.root[7:]
    words = ("verify", "permit", str(bundle), "--trust", str(trust), "--weights", str(weights))
    assert keyturn(*words).returncode == 0
    said = keyturn("permit", "revoke", permit, "--project", str(made.project.root), "--reason", "recalled")
    assert said.returncode == 0, said.stderr
    made.project.bundle(permit, bundle, old_size=app.read_trust(trust).seen.size)
    refused = keyturn(*words)
    assert refused.returncode == 3
    assert "revoked" in refused.stdout
    with pytest.raises(UntrustedInput, match="revoked"):
        made.go(candidates=1)
