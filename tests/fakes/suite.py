"""A containment suite that attacks nothing: it gives the tier it is told to, and counts how often it was run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keyturn.core.terms import Digest, Tier
from keyturn.sandbox import suite
from keyturn.sandbox.port import Backend
from keyturn.sandbox.suite import Checked, Row

DIGEST = Digest("sha256:" + "5" * 64)


def rows(*, breached: tuple[int, ...] = ()) -> tuple[Row, ...]:
    """Four probes, one of each kind."""
    made: list[Row] = []
    told: list[tuple[Any, str, str]] = [
        ("escape", "host-secret", "reads a file of the host that is for root alone"),
        ("resource", "fork-bomb", "makes more processes than it may"),
        ("channel", "loopback", "speaks with a server on the host's loopback"),
        ("information", "load", "reads how busy the host is"),
    ]
    for number, (kind, probe, what) in enumerate(told, 1):
        inside: Any = "breach" if number in breached else "held"
        detail = "it got through" if number in breached else "EACCES"
        control: Any = "fails" if probe == "fork-bomb" else "succeeds"
        made.append(Row(number, probe, what, kind, inside, detail, control, f"it {control} there", Tier.T1))
    return tuple(made)


@dataclass
class FakeSuite:
    """What stands in place of the suite; `during` is called before each probe."""

    tier: Tier = Tier.T2
    digest: Digest = DIGEST
    breached: tuple[int, ...] = ()
    runs: int = 0
    during: Callable[[], None] = lambda: None

    def check(self, backend: Backend, folder: Path, *, tell: Callable[[int, int, str], None]) -> Checked:
        """See `keyturn.sandbox.suite.check`."""
        self.runs += 1
        assert folder.is_dir()
        found = rows(breached=self.breached)
        for row in found:
            tell(row.number - 1, len(found), row.probe)
            self.during()
        held = sum(row.inside == "held" for row in found[:3])
        return Checked(self.tier, found, ("locks on shared files",), (), self.digest, held, 3, 2, 0.1)


@pytest.fixture
def fake_suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeSuite:
    """The fake in place of the real one, and a state folder of the test's own."""
    fake = FakeSuite()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(suite, "check", fake.check)
    monkeypatch.setattr(suite, "digest", lambda: fake.digest)
    return fake
