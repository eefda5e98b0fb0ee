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
    seen = app.read_trust(trust).seen.size
    shown = ("permit", "show", permit, "--project", str(made.project.root), "--bundle", str(bundle))
    assert keyturn(*shown).returncode == 0
    unproven = keyturn(*words)
    assert f"--since {seen}`" in " ".join(unproven.stdout.split())  # what it should have been asked with
    assert keyturn(*shown, "--since", str(seen)).returncode == 0
    assert keyturn(*shown, "--trust", str(trust)).returncode == 0
    assert app.read_trust(trust).seen.size == seen  # kept, and the bundle continues it
    refused = keyturn(*words)
    assert refused.returncode == 3
    assert "revoked" in refused.stdout
    with pytest.raises(UntrustedInput, match="revoked"):
        made.go(candidates=1)
