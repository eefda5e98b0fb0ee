"""`run` always comes to an end: whatever the log holds, the governor stops, asks people, or says what is wrong."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core import events as ev
from keyturn.core.errors import KeyturnError
from keyturn.core.events import Document
from keyturn.core.evolve import evolve
from keyturn.core.policy import Policy
from keyturn.core.state import State
from keyturn.core.terms import Digest, Instant
from keyturn.flow import dossier as dossiers
from keyturn.flow import improve as improves
from keyturn.flow import project as projects
from keyturn.flow import trial as trials
from keyturn.flow.dossier import seal_other
from keyturn.flow.governor import Governor
from keyturn.flow.log import Fact, Stamp
from keyturn.flow.ports import Attested, Improved, Leave, OnAttested, OnPrograms
from keyturn.flow.run import STOPS, run
from keyturn.wire.digest import sha256
from tests.core.examples import FILES as FILES_OF_FOUNDER
from tests.core.examples import FOUNDER, HOUR, Story
from tests.fakes.runner import FakeRunner, FakeTrial, chance
from tests.spec.histories import stories
from tests.spec.test_twin import bounded

STEPS_MAX = 400
FILES = {"subject.py": b'{"exam": 0, "salt": "1", "kindness": 0.1, "strength": 0.2}'}


class Endless(AssertionError):
    """More happened than could."""


@dataclass
class PlainLog:
    """A log without bytes: the fold alone, counting what is done to it."""

    state: State
    at: int
    done: Counter[str] = field(default_factory=Counter)

    class ids:  # noqa: N801 - stands for a port that is an attribute
        number = 0

        @classmethod
        def new(cls) -> str:
            cls.number += 1
            return f"{cls.number:032x}"

    def now(self) -> Instant:
        return Instant(max(self.at, self.state.last_at))

    def refresh(self) -> State:
        self.done["refresh"] += 1
        if self.done["refresh"] > 2 * STEPS_MAX:
            raise Endless("the agenda goes round and round without writing")
        return self.state

    def append(self, *facts: Fact, actor: str = "governor") -> State:
        for fact in facts:
            current = self.state.current
            stamp = Stamp(id=self.ids.new(), at=self.now(), actor=actor, policy=current.digest if current else "")
            event = fact(stamp)
            self.done[type(event).__name__] += 1
            self.state = evolve(self.state, event)
        if sum(self.done.values()) > 5 * STEPS_MAX:
            raise Endless(f"the log grows without end: {self.done}")
        return self.state

    record = append

    def publish(self) -> State:
        return self.append(self._status)

    def sign_published(self) -> None:
        pass

    def _status(self, stamp: Stamp) -> ev.Event:
        state, current = self.state, self.state.current
        assert current is not None
        return ev.StatusPublished(
            **stamp,
            counter=state.status_counter + 1,
            halted=state.halt is not None,
            revoked=state.revoked,
            policy_version=current.version,
            policy_digest=current.digest,
            simulated=False,
        )


@dataclass
class NoLatch:
    """A latch in memory."""

    why: str | None = None

    def set(self, why: str) -> None:
        self.why = why

    def clear(self) -> None:
        self.why = None

    def reason(self) -> str | None:
        return self.why

    def freeze(self, text: str) -> None:
        pass

    def thaw(self) -> None:
        pass

    def frozen(self) -> str | None:
        return None

    def guard(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class NoArtifacts:
    """Keeps nothing."""

    def put(self, root: Digest, files: Mapping[str, bytes]) -> None:
        pass

    def path(self, root: Digest) -> Path:
        return Path("nowhere")


@dataclass(slots=True)
class AnyRunner(FakeRunner):
    """Makes a different candidate at every step, sometimes none."""

    def improve(
        self,
        policy: Policy,
        parent: Mapping[str, bytes],
        *,
        leave: Leave,
        on_attested: OnAttested,
        on_programs: OnPrograms,
    ) -> Improved:
        seed = leave.seed
        on_attested(Attested(self.tier, {}, self.problems))
        if chance(seed) < 0.2:
            return Improved("failed", "", 0.0, 0.0, 0, b"")
        body = json.loads(FILES["subject.py"]) | {"salt": str(seed), "kindness": chance("k", seed)}
        return Improved("produced", "", 0.0, 0.0, 0, b"", {"subject.py": json.dumps(body).encode()}, b'{"score": 0.5}')


@pytest.fixture(autouse=True)
def bytes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generated histories have no files behind them."""
    monkeypatch.setattr(improves, "load_generation", lambda *_: FILES)
    monkeypatch.setattr(
        trials, "_members", lambda *_: {"candidate": FILES, "parent": FILES, "founder": FILES, "audited": FILES}
    )
    monkeypatch.setattr(dossiers, "_files", lambda *_: FILES)
    founder: Document = {"candidate": {"name": "founder", "root": FOUNDER, "files": list(FILES_OF_FOUNDER)}}
    monkeypatch.setattr(projects, "_seal", lambda governor, _: seal_other(governor.log, "FoundLineage", founder))
    monkeypatch.setattr(Governor, "stored", lambda *_: FILES)
    monkeypatch.setattr(FakeTrial, "value", lambda self, files, item: float(chance(self.seed, item) < 0.2))


ENDED: Counter[str] = Counter()


class NoBlobs:
    """Nothing is kept, and nothing was erased."""

    def keep(self, data: bytes) -> str:
        return "withheld:" + sha256(data)

    def erase(self, digest: Digest) -> bool:
        return False


def governed(story: Story, later: int, tier: str) -> tuple[PlainLog, Governor]:
    log = PlainLog(story.state, story.at + later)
    runner = AnyRunner(NoLatch(), tier=tier)
    governor = Governor(
        log=log,  # type: ignore[arg-type]  # a log without bytes
        improver=runner,
        trials=runner,
        halter=runner,
        artifacts=NoArtifacts(),
        blobs=NoBlobs(),
        latch=runner.latch,
        bank_key=b"bank",
        trust=lambda: pytest.fail("nothing is loaded here"),
        tell=lambda _: None,
        grown=lambda name, plan, process: None,
    )
    return log, governor


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@bounded(500)
@given(stories(), st.sampled_from((0, 1, 601_000, 2 * HOUR, 25 * HOUR)), st.sampled_from(("T3", "T2", "T1")))
def test_run_terminates_on_every_history(story: Story, later: int, tier: str) -> None:
    _log, governor = governed(story, later, tier)
    try:
        step = run(governor)
    except KeyturnError as fault:
        ENDED[type(fault).__name__] += 1
        return
    assert isinstance(step, STOPS)
    assert type(run(governor)) is type(step), "asked again, it waits for the same"
    ENDED[type(step).__name__] += 1


def test_the_runs_above_came_to_every_kind_of_end() -> None:
    if not ENDED:
        pytest.fail("run the property first: this test counts what it saw")
    assert {"Hold", "AwaitAudit", "AwaitWarrant", "Halted", "Refused", "Unavailable"} - set(ENDED) == set(), ENDED


def test_an_endless_log_would_be_seen() -> None:
    story = Story().founded()
    log = PlainLog(story.state, story.at)
    log.done["StatusPublished"] = 5 * STEPS_MAX
    with pytest.raises(Endless):
        log.publish()
    log.done["refresh"] = 2 * STEPS_MAX
    with pytest.raises(Endless):
        log.refresh()
