"""Stories whose screens are compared: a lineage with releases, refusals, an audit, a halt and a raised level."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Sequence
from typing import Any

from keyturn.core import events as ev
from keyturn.core import trial
from keyturn.core.decision import prepare
from keyturn.core.finding import Request
from keyturn.core.terms import NO_DIGEST, Digest, Instant
from tests.core.examples import Story, document, loop, person


def policy(**changes: Any) -> dict[str, Any]:
    """The examples' policy with the lines of connect4, larger banks, and a paired limit."""
    text = document(**changes)
    for each in text["suites"]:
        each.update(items_max=400, block=100)
    kind, strong = text["thresholds"]
    kind.update(line=0.10, margin=0.02, lifetime_error=0.05)
    strong.update(line=0.60, margin=0.05, lifetime_error=0.05)
    text["pace"] = {"unaudited_max": 9}
    text["levels"][1]["unaudited_max"] = 9
    return text


def scores(seed: str, mean: float, length: int = 400) -> list[float]:
    """Seeded scores of 0 and 1 with this mean."""
    dice = random.Random(seed)
    return [float(dice.random() < mean) for _ in range(length)]


def tried(story: Story, candidate: str, threshold: str, mean: float) -> str:
    """A whole trial of seeded scores."""
    name = f"{candidate}/{threshold}"
    size = {"bank_items": 400, "clusters": 400, "items": 400, "block_items": 100}
    story.planned(candidate, threshold, **size)
    story.attest(f"trial:{candidate}:{threshold}")
    values = scores(name, mean)
    while not trial.finished(story.plan(name), story.process(name)):
        plan, process = story.plan(name), story.process(name)
        block = trial.next_block(plan, process)
        after = trial.read(plan, process, {n: values[n] for n in block.positions})
        read = tuple(values[process.n : after.n])
        story.add(ev.TrialAdvanced, trial=name, start=process.n, values=read, faults=(), process=after.to_json())
    verdict = story.process(name).verdict.value
    story.add(ev.TrialEnded, trial=name, verdict=verdict, items=story.state.trials[name].read)
    story.evidence(name)
    return verdict


def proposed(story: Story, name: str, *, broken: float, score: float) -> Story:
    """A candidate with both trials done; the level follows from them."""
    story.candidate(name, win_rate=0.9)
    tried(story, name, "kind", broken)
    if tried(story, name, "strong", score) != "CLEAR":
        story.add(ev.LevelRaised, lineage="toy", candidate=name, threshold="strong", level=1)
    return story


def rejected(story: Story, name: str) -> Story:
    """The candidate is refused with what the gate finds."""
    findings = prepare(story.state, Request("ReleaseCandidate", NO_DIGEST, name), Instant(story.at)).findings
    plain = tuple(finding.to_json() for finding in findings)
    story.add(ev.CandidateRejected, candidate=name, findings=plain)
    return story


def released(story: Story, name: str, by: Sequence[tuple[str, str]] = (("ada", "safety"),)) -> Story:
    """The candidate clears its gate and becomes a generation."""
    sealed = story.dossier(name)
    for who, role in by:
        story.approve(sealed, who, role)
    story.decided(sealed)
    root: Digest = story.state.candidates[name].root
    story.permit(sealed, candidate=name, root=root)
    assert story.state.lineage is not None
    story.release(name, root, story.state.lineage.parent.number + 1)
    return story


def long_story(text: dict[str, Any] | None = None) -> Story:
    """Three released, two refused, one audit, one halt that was lifted, and one candidate that waits."""
    return _long_story(json.dumps(text or policy())).copy()


@functools.cache
def _long_story(text: str) -> Story:
    """Made once for each policy, because its trials take a while."""
    story = loop(json.loads(text)).warrant(candidates=12)
    released(proposed(story, "c1", broken=0.02, score=0.15), "c1")
    rejected(proposed(story, "c2", broken=0.24, score=0.30), "c2")
    released(proposed(story, "c3", broken=0.03, score=0.38), "c3")
    assert story.state.lineage is not None
    story.audited(story.state.lineage.parent.root)
    story.halted()
    dossier = story.seal("ResumeLoop", {"halt": "h-1"})
    story.approve(dossier, "ada")
    story.decided(dossier)
    story.add(ev.LoopResumed, halt="h-1", dossier=dossier)
    rejected(proposed(story, "c4", broken=0.09, score=0.45), "c4")
    both = (("ada", "safety"), ("ben", "engineering"))
    released(proposed(story, "c5", broken=0.015, score=0.72), "c5", by=both)
    proposed(story, "c6", broken=0.03, score=0.80)
    story.dossier("c6")
    story.status()
    return story


def simulated() -> dict[str, Any]:
    """The same policy in a demo with simulated people."""
    text = policy()
    text["project"] = {**text["project"], "demo": True}
    text["people"] = [
        person("ada", "safety", "board", kind="simulated"),
        person("ben", "safety", "engineering", kind="simulated"),
    ]
    return text


UNGOVERNED = tuple(
    {"generation": number, "score": score, "broken": broken}
    for number, (score, broken) in enumerate(
        [(0.15, 0.02), (0.31, 0.21), (0.45, 0.30), (0.60, 0.41), (0.74, 0.47), (0.83, 0.58)], 1
    )
)
