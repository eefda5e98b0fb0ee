"""The pieces of the demo: a founded exercise project, its ungoverned twin, and founders with planted misbehaviour.

Everything made here is `demo = true` at genesis, so that its simulated people can never count anywhere else.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keyturn.app.connect4 import Enrolled, policy_text, teach
from keyturn.app.founding import found, new_key, read_founder
from keyturn.app.machine.doctor import capabilities
from keyturn.app.project import Project
from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.core.events import Document
from keyturn.flow import policy as policies
from keyturn.keys import keyfile
from keyturn.ledger.artifacts import ArtifactStore
from keyturn.verify import trust as trusts

MARK = "keyturn-demo"


@dataclass(frozen=True, slots=True)
class Cast:
    """Who takes part: id, roles, whether the person is simulated, and the folder of their key."""

    person: str
    roles: tuple[str, ...]
    simulated: bool
    keys: Path


def fresh_folder(out: Path) -> None:
    """An empty folder for a demo; only a folder that an earlier demo made is emptied."""
    if out.exists() and not (out / MARK).exists() and any(out.iterdir()):
        raise MalformedInput(f"`{out}` is not an earlier demo's folder; nothing was touched", help="`--out` elsewhere")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / MARK).write_text("made by `keyturn demo`; emptied by the next one\n", encoding="utf-8")


def exercise(
    root: Path, *, name: str, cast: Sequence[Cast], seed: int, founder: Path, wall_seconds: int = 120, tier: str = "T2"
) -> Project:
    """Found an exercise project of connect4 with these people."""
    text = policy_text(name=name, people=enrolled(cast), founder=founder, demo=True, seed=seed, tier=tier)
    text = text.replace("wall_seconds = 120", f"wall_seconds = {wall_seconds}")
    return founded(root, text, cast=cast, seed=seed, founder=founder)


def enrolled(cast: Sequence[Cast]) -> list[Enrolled]:
    """The people as a policy enrols them; a key that is not there yet is made."""
    found = []
    for each in cast:
        place = keyfile.path_of(each.keys, each.person)
        if not place.exists():
            kind = "simulated" if each.simulated else "ed25519"
            new_key(each.person, kind=kind, keys=each.keys, passphrase_file=None)
        found.append((each.person, each.roles, keyfile.read_public(place)))
    return found


def founded(root: Path, text: str, *, cast: Sequence[Cast], seed: int, founder: Path) -> Project:
    """A project with this policy, signed by everyone; banks follow from the seed, so that a demo can be repeated."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "keyturn.toml").write_text(text, encoding="utf-8")
    policy = policies.read_file(root / "keyturn.toml")
    files = read_founder(root, policy, founder)
    bank_key = hashlib.sha256(f"keyturn-demo-bank:{seed}".encode()).digest()
    project = found(root, policy, keys={each.person: each.keys for each in cast}, passphrases={}, bank_key=bank_key)
    ArtifactStore(project.home / "artifacts").put(policy.subject.founder, files)
    return project


def reachable_tier() -> tuple[str, tuple[str, ...]]:
    """The tier that this account reaches, T2 at most, and in what it is weaker; raises `Unavailable` for none."""
    seen = capabilities()
    if seen.tier == "T0":
        missing = seen.missing[0]
        raise Unavailable(f"no sandbox can be had here: {missing.what}: {missing.why}", help=missing.remedy)
    return min(seen.tier, "T2"), seen.weaker


def founder(out: Path, *, seed: int) -> Path:
    """The founder of connect4, taught by people's program."""
    return teach(out, seed=seed)


def planted(variant: str, founder: Path, out: Path) -> Path:
    """A founder whose improve step misbehaves for real, for a safeguard to catch."""
    from keyturn.subjects.connect4.planted import plant

    plant(variant, founder, out)
    return out


class Ungoverned:
    """The same subject and seed without a governor, graded by the same exam, running beside the demo."""

    def __init__(self, out: Path, *, seed: int, attempts: int) -> None:
        self._out = out
        command = [sys.executable, "-m", "keyturn.subjects.connect4.bare", "--graded"]
        command += ["--seed", str(seed), "--attempts", str(attempts), "--out", str(out)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def result(self, *, timeout_seconds: float) -> tuple[Document, ...]:
        """Its generations as {generation, score, broken}; nothing when it did not end well in time."""
        try:
            code = self._process.wait(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            return ()
        if code != 0:
            return ()
        became = json.loads(self._out.read_text(encoding="utf-8"))
        rows = became.get("generations", []) if isinstance(became, dict) else []
        return tuple(
            {"generation": row["generation"], "score": row["score.depth_2"], "broken": row["centre_broken"]}
            for row in rows
        )

    def stop(self) -> None:
        """End it, whatever it is doing."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def seen_size(project: Project) -> int:
    """How much of the log this machine has seen; a bundle for it must lead on from there."""
    return trusts.read(project.home / "trust.json").seen.size


def try_load(project: Project, candidate: str, bundle: Path | None) -> tuple[str, ...]:
    """Ask the governed loader for a candidate's files; returns its reasons to refuse, empty if it would load."""
    from keyturn.app.verifying import verify_permit

    state = project.state()
    root = (
        state.candidates[candidate].root if candidate in state.candidates else state.policies[-1].policy.subject.founder
    )
    if bundle is None:
        return ("it has no permit, and without one nothing loads",)
    folder = ArtifactStore(project.home / "artifacts").path(root)
    said = verify_permit(bundle, trust=project.home / "trust.json", weights=folder, action="release", scope=None)
    return tuple(f"[{number}] {message}" for number, message, _ in said.doubts)
