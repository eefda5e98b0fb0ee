"""A project that is a story: the methods of `keyturn.app.Project` over a state that was folded from events."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keyturn.app.disclosing import ClockRow
from keyturn.app.project import Head
from keyturn.app.reasons.reading import Reader
from keyturn.app.verifying import Replay
from keyturn.core.agenda import Step, next_step
from keyturn.core.state import Freeze, State
from keyturn.core.terms import Digest, Instant
from keyturn.ledger.blobs.store import BlobStore
from tests.core.examples import Story

STOPPED = {
    "state": "STOPPED",
    "scope": "every sandbox of this governor",
    "requested_at": 1_800_000_000_000,
    "kill_written_ms": 0.4,
    "init_exited_ms": 2.25,
    "cgroup_empty_ms": 3.5,
    "processes_before": 7,
    "survivors": 0,
    "unknown": [],
}
UNPROVEN = {**STOPPED, "state": "UNPROVEN", "cgroup_empty_ms": None, "survivors": 1, "unknown": ["the cgroup's count"]}


HELD = {
    "state": "HELD", "scope": "1 sandbox of this governor", "frozen_ms": 4.2, "sandboxes": 1, "processes": 3,
    "unknown": [], "freeze": "f-1", "by": "person:ada", "reason": "look", "at": 1_800_000_000_000,
    "until_at": 1_800_000_600_000,
}  # fmt: skip  # one row, one thought
LOOKED = {
    "state": "FROZEN", "doing": "trial `c1/kind`", "freeze": "f-1", "by": "person:ada", "until_at": 1_800_000_600_000,
    "sandboxes": [{
        "id": "answer-1", "part": "candidate", "purpose": "answer", "waits": False, "still": True, "processes": 3,
        "cpu_seconds": 1.25, "memory_bytes": 48 << 20, "age_seconds": 75.0,
    }],
}  # fmt: skip  # one row, one thought


@dataclass
class FakeProject:
    """The project of a story; `said` keeps what it was asked to do."""

    story: Story
    root: Path = Path("project")
    known_copies: int = 0
    receipt: dict[str, Any] = field(default_factory=lambda: dict(STOPPED))
    rows: tuple[ClockRow, ...] = ()
    later: tuple[ClockRow, ...] = ()
    problems: tuple[tuple[int, str, str], ...] = ()
    enough: bool = True
    said: list[tuple[str, Any]] = field(default_factory=list)
    held: dict[str, Any] = field(default_factory=lambda: dict(HELD))
    looked: dict[str, Any] = field(default_factory=lambda: dict(LOOKED))

    @property
    def policy_path(self) -> Path:
        return self.root / "keyturn.toml"

    def state(self) -> State:
        return self.story.state

    def logged(self) -> State:
        return self.story.state

    def reader(self, state: State) -> Reader:
        return Reader(BlobStore(self.root / "blobs"), state.erased)

    def head(self) -> Head:
        return Head(self.story.state.size, "ab" * 32, self.story.state.published, self.story.state.witnessed)

    def entries(self, after: int, limit: int) -> tuple[tuple[int, Any], ...]:
        return tuple(enumerate(self.story.events))[after : after + limit]

    def replay(self, tell: Any) -> Replay:
        tell("all of it")
        return Replay(self.story.state.size, 4, self.problems, "ab" * 32)

    def run(self, *, shadow: bool, wait: bool, standby: bool, tell: Any, grown: Any) -> Step:
        self.said.append(("run", (shadow, wait)))
        tell("candidate `c6` on \x1b[31m`kind`")
        return next_step(self.story.state, Instant(self.story.at))

    def halt(self, *, by: str, reason: str) -> dict[str, Any]:
        self.said.append(("halt", (by, reason)))
        return self.receipt

    def drill(self, *, by: str) -> dict[str, Any]:
        self.said.append(("drill", by))
        return self.receipt

    def copies(self) -> int:
        return self.known_copies

    def freeze(self, *, by: str, reason: str, minutes: float) -> dict[str, Any]:
        self.said.append(("freeze", (by, reason, minutes)))
        return self.held

    def thaw(self, *, by: str) -> dict[str, Any]:
        self.said.append(("thaw", by))
        return {"state": "THAWED"}

    def look(self) -> dict[str, Any]:
        return self.looked

    def frozen(self) -> Freeze | None:
        return self.story.state.freeze

    def decide(self, dossier: str, who: Any, *, decision: str, reason: str) -> None:
        self.said.append((decision, (dossier, who.person, reason)))
        self.story.approve(Digest(dossier), who.person, refuse=decision == "refuse")

    def give_warrant(self, who: Any, **bounds: Any) -> str:
        self.said.append(("warrant", (who.person, bounds)))
        return "w-1" if self.enough else ""

    def resume(self, who: Any, *, reason: str) -> bool:
        self.said.append(("resume", (who.person, reason)))
        return self.enough

    def audit(self, who: Any, *, root: str | None, reason: str) -> None:
        self.said.append(("audit", (who.person, root, reason)))

    def aware(self, who: Any, **rest: Any) -> None:
        self.said.append(("aware", (who.person, rest)))
        self.rows = self.later

    def clocks(self, incident: str) -> tuple[ClockRow, ...]:
        return self.rows

    def draft(self, incident: str) -> str:
        return f"draft of {incident}"

    def adopt_policy(self, who: Any, *, reason: str) -> bool:
        return self.enough

    def adoption_lacks(self) -> tuple[str, ...]:
        return () if self.enough else ("1 more approval(s) in the role `safety` of policy 1",)

    def bundle(self, permit: str, path: Path, *, old_size: int = 0) -> int:
        path.write_text(permit, encoding="utf-8")
        return len(permit)

    def write_trust(self, path: Path) -> int:
        path.write_text("trust", encoding="utf-8")
        return 0


def clock(name: str, **changes: Any) -> ClockRow:
    """A clock that runs; `changes` replace fields."""
    fields: dict[str, Any] = {
        "regime": name,
        "state": "EXERCISE, running",
        "due_at": Instant(1_800_054_000_000),
        "trigger": "the moment when somebody became aware",
        "recipient": "the AI Office",
        "source": "Article 55",
        "as_of": "2026-08-01",
        "confidence": "likely",
        "exercise": True,
        "why": "",
    }
    return ClockRow(**{**fields, **changes})
